"""The official `openai` client's Responses, sync and async: what it is answered, what it raises, and what each call leaves
in the ledger."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import openai
import pytest

from tests.acceptance.conftest import BOTH, Connect, chunks, done, first_chunks
from tests.acceptance.test_openai_client import assert_settled
from tests.acceptance.test_openai_client_failures import OVERLOADED, assert_failed_for_nothing
from tests.harness.answers import Gate, Usage
from tests.harness.books import bills, charge, wait_until
from tests.harness.honest_responses import THOUGHTS, counts, event, response
from tests.harness.scene import RATES, UPSTREAM_SECRET, Scene

WEATHER = {
    "type": "function",
    "name": "weather",
    "strict": False,
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
}
ARGUMENTS = '{"city": "some text", "days": 7}'
REQUEST = {"model": "stand-in"}
AT = {"output_index": 0, "content_index": 0, "item_id": "msg_1", "logprobs": []}
ITEM = {"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
PART = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
COLOURS = [
    event("response.created", 0, response=response(REQUEST)),
    event("response.output_item.added", 1, output_index=0, item=ITEM),
    event("response.content_part.added", 2, output_index=0, content_index=0, item_id="msg_1", part=PART),
    *(event("response.output_text.delta", 3 + at, delta=f" {word}", **AT) for at, word in enumerate(["red", "green", "blue"] * 4)),
]


def ask(scene: Scene, input: Any = "hello there", **fields: Any) -> dict[str, Any]:
    return {"model": scene.model, "input": input, **fields}


async def told(manager: Any) -> tuple[list[Any], Any]:
    """All events of either client's stream helper, and the response that they come to."""
    if hasattr(manager, "__aenter__"):
        async with manager as stream:
            return [one async for one in stream], await stream.get_final_response()
    with manager as stream:
        return list(stream), stream.get_final_response()


@BOTH
async def test_a_response(scene: Scene, connect: Connect) -> None:
    answer = await done(connect(scene).responses.create(**ask(scene, "how are you", safety_identifier="end-user-7")))

    assert (answer.output_text, answer.status) == ("You said how are you", "completed")
    [usage] = scene.upstream.ledger
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (usage.input, usage.output)
    row = assert_settled(scene, usage, is_stream=False, api="responses", end_user="end-user-7", upstream_model="stand-in")
    assert row["api_key_id"] == scene.key_id


async def test_the_upstream_gets_its_own_key_and_what_the_client_wrote(scene: Scene, connect: Connect) -> None:
    await done(connect(scene).responses.create(**ask(scene, instructions="Be brief.", store=False)))

    [received] = scene.upstream.requests
    assert (received.path, received.header("authorization")) == ("/v1/responses", f"Bearer {UPSTREAM_SECRET}")
    assert received.json == ask(scene, instructions="Be brief.", store=False) | {"model": "stand-in"}


async def test_cached_and_reasoning_tokens_have_their_own_prices(new_scene: Callable[..., Scene], connect: Connect) -> None:
    rates = {"input": "2", "output": "8", "cache_read": "0.5", "reasoning": "11"}
    scene = new_scene(rates=rates)
    usage = Usage(input=120, output=90, cached=64, reasoning=32)
    scene.upstream.answer(json=response(REQUEST, "completed", usage=usage))

    await done(connect(scene).responses.create(**ask(scene, "word " * 200)))

    row = scene.row()
    assert [row[name] for name in ("input_tokens", "output_tokens", "cache_read_tokens", "reasoning_tokens")] == [120, 90, 64, 32]
    assert row["charge"] == (56 * Decimal(2) + 64 * Decimal("0.5") + 58 * Decimal(8) + 32 * Decimal(11)) / 1_000_000
    assert row["bill"] == bills([row["charge"]])[0]


async def test_reasoning_is_told_apart(scene: Scene, connect: Connect) -> None:
    answer = await done(connect(scene).responses.create(**ask(scene, "one two", reasoning={"effort": "low"})))

    assert answer.usage.output_tokens_details.reasoning_tokens == THOUGHTS
    assert_settled(scene, Usage(input=5, output=4 + THOUGHTS, reasoning=THOUGHTS))


@BOTH
async def test_a_stream(scene: Scene, connect: Connect) -> None:
    got = await chunks(await done(connect(scene).responses.create(**ask(scene, "one two"), stream=True)))

    assert [one.type for one in got[:2]] == ["response.created", "response.in_progress"]
    assert "".join(one.delta for one in got if one.type == "response.output_text.delta") == "You said one two"
    assert [one.sequence_number for one in got] == list(range(len(got)))
    [usage] = scene.upstream.ledger
    assert got[-1].type == "response.completed"
    assert (got[-1].response.usage.input_tokens, got[-1].response.usage.output_tokens) == (usage.input, usage.output)
    assert_settled(scene, usage, is_stream=True, end_reason="completed")


async def test_the_stream_helper(scene: Scene, connect: Connect) -> None:
    events, final = await told(connect(scene).responses.stream(**ask(scene, "one two")))

    assert [one.snapshot for one in events if one.type == "response.output_text.delta"][-1] == "You said one two"
    assert (final.output_text, final.status) == ("You said one two", "completed")
    assert_settled(scene, scene.upstream.ledger[0], is_stream=True)


async def test_a_tool_is_called_and_its_output_is_answered(scene: Scene, connect: Connect) -> None:
    client = connect(scene)
    calling = await done(client.responses.create(**ask(scene, "tomorrow", tools=[WEATHER])))
    [call] = calling.output
    items = [
        {"role": "user", "content": "tomorrow"},
        call.model_dump(exclude_none=True),
        {"type": "function_call_output", "call_id": call.call_id, "output": "rain"},
    ]
    answer = await done(client.responses.create(**ask(scene, items, tools=[WEATHER])))

    assert (call.type, call.name, call.arguments) == ("function_call", "weather", ARGUMENTS)
    assert answer.output_text == "You said rain"
    expected = [charge(RATES, {"input_tokens": u.input, "output_tokens": u.output}) for u in scene.upstream.ledger]
    assert [row["charge"] for row in scene.rows()] == expected
    assert [row["bill"] for row in scene.rows()] == bills(expected)


async def test_a_streamed_tool_call(scene: Scene, connect: Connect) -> None:
    events, final = await told(connect(scene).responses.stream(**ask(scene, tools=[WEATHER])))

    assert "".join(one.delta for one in events if one.type == "response.function_call_arguments.delta") == ARGUMENTS
    assert (final.output[0].name, final.output[0].arguments) == ("weather", ARGUMENTS)
    assert_settled(scene, scene.upstream.ledger[0], is_stream=True)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_response_that_reaches_its_limit_is_incomplete(scene: Scene, connect: Connect, stream: bool) -> None:
    answer = await done(connect(scene).responses.create(**ask(scene, "one two three", max_output_tokens=3), stream=stream))
    if stream:
        last = (await chunks(answer))[-1]
        assert last.type == "response.incomplete"
        answer = last.response

    assert (answer.output_text, answer.status, answer.incomplete_details.reason) == ("You said one", "incomplete", "max_output_tokens")
    assert_settled(scene, Usage(input=6, output=3), is_stream=stream, end_reason="completed")


async def test_a_response_that_fails_in_its_stream_is_billed_what_it_used(scene: Scene, connect: Connect) -> None:
    usage = Usage(input=60, output=9)
    error = {"code": "server_error", "message": "The model failed."}
    failed = response(REQUEST, "failed", usage=usage, error=error)
    scene.upstream.stream([*COLOURS[:6], event("response.failed", 6, response=failed)], usage=usage)
    got = await chunks(await done(connect(scene).responses.create(**ask(scene, "word " * 100), stream=True)))

    assert (got[-1].type, got[-1].response.error.message) == ("response.failed", "The model failed.")
    assert_settled(scene, usage, is_stream=True, status="failed", end_reason="upstream_error", error_message="The model failed.")


async def test_an_error_event_is_passed_on_and_what_came_before_it_is_billed(scene: Scene, connect: Connect) -> None:
    error = event("error", 6, code="server_error", message="The engine broke.", param=None)
    scene.upstream.stream([*COLOURS[:6], error])
    got = await chunks(await done(connect(scene).responses.create(**ask(scene, "name some colours"), stream=True)))

    assert (got[-1].type, got[-1].message) == ("error", "The engine broke.")
    row = scene.row()
    assert (row["status"], row["end_reason"], row["error_message"]) == ("failed", "upstream_error", "The engine broke.")
    assert (row["usage_source"], row["output_tokens"]) == ("estimated", 3)
    assert row["charge"] == charge(RATES, row)


async def test_usage_that_follows_an_error_event_is_billed(scene: Scene, connect: Connect) -> None:
    usage = Usage(input=60, output=9)
    error = {"code": "server_error", "message": "The engine broke."}
    failed = event("response.failed", 7, response=response(REQUEST, "failed", usage=usage, error=error))
    scene.upstream.stream([*COLOURS[:6], event("error", 6, **error, param=None), failed], usage=usage)
    got = await chunks(await done(connect(scene).responses.create(**ask(scene, "word " * 100), stream=True)))

    assert [one.type for one in got[-2:]] == ["error", "response.failed"]
    assert_settled(scene, usage, is_stream=True, status="failed", end_reason="upstream_error", error_message="The engine broke.")


async def test_a_stream_that_the_upstream_cuts_ends_with_an_error_event(scene: Scene, connect: Connect) -> None:
    scene.upstream.cut(COLOURS, after=6)
    got = await chunks(await done(connect(scene).responses.create(**ask(scene, "name some colours"), stream=True)))

    assert (got[-1].type, got[-1].code) == ("error", "upstream_broken")
    row = scene.row()
    assert (row["status"], row["end_reason"], row["output_tokens"]) == ("failed", "upstream_broken", 3)
    assert row["charge"] == charge(RATES, row)


async def test_counting_input_tokens_costs_nothing(new_scene: Callable[..., Scene], connect: Connect) -> None:
    scene = new_scene(credit="0")
    counted = await done(connect(scene).responses.input_tokens.count(**ask(scene, "one two three", instructions="Be brief.")))

    assert counted.input_tokens == 2 * 3 + 2 + 3
    assert scene.upstream.requests[0].path == "/v1/responses/input_tokens"
    row = scene.row()
    assert (row["api"], row["status"], row["charge"], row["bill"]) == ("responses.input_tokens", "success", 0, 0)


async def test_a_prompt_that_the_provider_keeps_for_its_account_is_refused(scene: Scene, connect: Connect) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await done(connect(scene).responses.create(**ask(scene), prompt={"id": "pmpt_of_somebody"}))

    assert refused.value.code == "unsupported"
    assert "prompt" in refused.value.message
    scene.assert_nothing_happened()
    assert_failed_for_nothing(scene)


async def test_a_wrong_key_is_an_authentication_error(scene: Scene, connect: Connect) -> None:
    with pytest.raises(openai.AuthenticationError) as refused:
        await done(connect(scene, api_key="sk-nobody").responses.create(**ask(scene)))

    assert refused.value.code == "invalid_api_key"
    scene.assert_nothing_happened()
    assert scene.rows() == []


async def test_no_credit_says_what_the_call_may_cost(new_scene: Callable[..., Scene], connect: Connect) -> None:
    scene = new_scene(credit="0")
    with pytest.raises(openai.APIStatusError) as refused:
        await done(connect(scene).responses.create(**ask(scene), max_output_tokens=1000))

    assert (refused.value.status_code, refused.value.code) == (402, "insufficient_credit")
    assert "0.01" in refused.value.message  # 1,000 tokens at 10 a million, and a little for the prompt
    scene.assert_nothing_happened()
    assert_failed_for_nothing(scene)


async def test_an_unknown_model_is_not_found(scene: Scene, connect: Connect) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        await done(connect(scene).responses.create(**ask(scene) | {"model": "no-such-model"}))

    assert refused.value.code == "model_not_found"
    scene.assert_nothing_happened()
    assert_failed_for_nothing(scene)


async def test_a_request_that_makes_no_sense_is_a_bad_request(scene: Scene, connect: Connect) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await done(connect(scene).responses.create(**ask(scene), max_output_tokens=-1))

    assert "max_output_tokens" in refused.value.message
    scene.assert_nothing_happened()
    assert_failed_for_nothing(scene)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_upstream_rate_limit_is_passed_on(scene: Scene, connect: Connect, stream: bool) -> None:
    scene.upstream.answer(json=OVERLOADED, status=429, headers={"Retry-After": "7"}, always=True)
    with pytest.raises(openai.RateLimitError) as failed:
        await done(connect(scene).responses.create(**ask(scene), stream=stream))

    assert failed.value.body == OVERLOADED["error"]
    assert failed.value.response.headers["retry-after"] == "7"
    assert_failed_for_nothing(scene)


async def test_a_client_that_times_out_is_billed_what_the_upstream_answers_in_the_end(scene: Scene, connect: Connect) -> None:
    gate = scene.upstream.hold()
    with pytest.raises(openai.APITimeoutError):
        await done(connect(scene, timeout=2).responses.create(**ask(scene, "are you there")))
    gate.open()

    row = scene.row()
    [usage] = scene.upstream.ledger
    assert (row["input_tokens"], row["output_tokens"], row["usage_source"]) == (usage.input, usage.output, "provider")
    assert (row["status"], row["end_reason"]) == ("success", "client_gone")
    assert row["charge"] == charge(RATES, row) > 0


@BOTH
async def test_a_client_that_leaves_a_stream_pays_what_was_delivered(scene: Scene, connect: Connect) -> None:
    last = event("response.completed", 15, response=response(REQUEST, "completed") | {"usage": counts(Usage(input=6, output=12))})
    scene.upstream.stream([*COLOURS, last], pauses={6: Gate()})

    stream = await done(connect(scene).responses.create(**ask(scene, "name some colours"), stream=True))
    delivered = await first_chunks(stream, 6)
    await done(stream.close())

    assert [one.delta for one in delivered[3:]] == [" red", " green", " blue"]
    wait_until(scene.upstream.requests[0].gone.is_set, what="the upstream's connection is closed")
    row = scene.row()
    assert (row["status"], row["usage_source"], row["end_reason"]) == ("success", "estimated", "client_gone")
    assert row["output_tokens"] == 3
    assert 3 <= row["input_tokens"] <= 20
    assert row["charge"] == charge(RATES, row)
    assert row["bill"] == bills([row["charge"]])[0]
