"""The official `anthropic` client, sync and async, on the root of the proxy: what it is answered, what it raises, and what
each call leaves in the ledger."""

from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any

import anthropic
import httpx2
import pytest

from tests.acceptance.conftest import BOTH, chunks, done, first_chunks, is_sync
from tests.acceptance.test_openai_client import assert_settled
from tests.acceptance.test_openai_client_failures import assert_failed_for_nothing
from tests.harness.answers import Gate, Usage
from tests.harness.books import bills, charge, wait_until
from tests.harness.honest_anthropic import counts, event
from tests.harness.proxy import Proxy
from tests.harness.scene import RATES, UPSTREAM_SECRET, Scene

AnthropicClient = anthropic.Anthropic | anthropic.AsyncAnthropic
Connect = Callable[..., AnthropicClient]

WEATHER = {
    "name": "weather",
    "description": "The weather of the days to come.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
}
CACHE_RATES = {"input": "3", "output": "15", "cache_read": "0.3", "cache_write": "3.75", "cache_write_1h": "6"}
CACHED = counts(Usage(input=3511, output=40, cached=2000), written=1500, for_an_hour=900)
CACHED_CHARGE = (11 * Decimal(3) + 2000 * Decimal("0.3") + 600 * Decimal("3.75") + 900 * Decimal(6) + 40 * Decimal(15)) / 1_000_000
LONG = {"type": "text", "text": "word " * 3000, "cache_control": {"type": "ephemeral", "ttl": "1h"}}
HEAD = {"id": "msg_1", "type": "message", "role": "assistant", "model": "stand-in", "stop_reason": None, "stop_sequence": None}
STARTED = counts(Usage(input=321, output=1, cached=300))
COLOURS = [
    event("message_start", message=HEAD | {"content": [], "usage": STARTED}),
    event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
    *(event("content_block_delta", index=0, delta={"type": "text_delta", "text": f" {word}"}) for word in ["red", "green", "blue"] * 4),
]
OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}, "request_id": "req_1"}


@pytest.fixture
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Connect]:
    """`connect(scene)` is an official client with the scene's key; it never retries, so that a call is one call. It speaks
    plain HTTP here and needs no certificates, which take long to read."""
    made: list[AnthropicClient] = []

    def client(scene: Scene, **options: Any) -> AnthropicClient:
        options = {"api_key": scene.key, "base_url": scene.proxy.url, "max_retries": 0, "timeout": 20} | options
        if is_sync(request):
            made.append(anthropic.Anthropic(http_client=httpx2.Client(trust_env=False, verify=False), **options))
        else:
            made.append(anthropic.AsyncAnthropic(http_client=httpx2.AsyncClient(trust_env=False, verify=False), **options))
        return made[-1]

    yield client
    for one in made:
        await done(one.close())


@pytest.fixture(scope="module")
def impatient(proxies: Callable[..., Proxy]) -> Proxy:
    return proxies(UPSTREAM_IDLE_TIMEOUT="0.5")


def ask(scene: Scene, content: Any = "hello there", **fields: Any) -> dict[str, Any]:
    return {"model": scene.model, "max_tokens": 1000, "messages": [{"role": "user", "content": content}], **fields}


async def told(manager: Any) -> tuple[list[Any], Any]:
    """All events of either client's stream helper, and the message that they come to."""
    if hasattr(manager, "__aenter__"):
        async with manager as stream:
            return [one async for one in stream], await stream.get_final_message()
    with manager as stream:
        return list(stream), stream.get_final_message()


def assert_tokens(scene: Scene, *, input: int, output: int, read: int = 0, written: int = 0) -> dict[str, Any]:
    row = scene.row()
    assert (row["input_tokens"], row["output_tokens"]) == (input, output)
    assert (row["cache_read_tokens"], row["cache_write_tokens"]) == (read, written)
    return row


@BOTH
async def test_a_message(scene: Scene, connect: Connect) -> None:
    answer = await done(connect(scene).messages.create(**ask(scene, "how are you", metadata={"user_id": "end-user-7"})))

    assert [block.text for block in answer.content] == ["You said how are you"]
    assert answer.stop_reason == "end_turn"
    [usage] = scene.upstream.ledger
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (usage.input, usage.output)
    row = assert_settled(scene, usage, is_stream=False, api="messages", end_user="end-user-7", upstream_model="stand-in")
    assert row["api_key_id"] == scene.key_id


async def test_the_upstream_gets_its_own_key_and_the_clients_version_of_the_protocol(scene: Scene, connect: Connect) -> None:
    await done(connect(scene).messages.create(**ask(scene)))

    [received] = scene.upstream.requests
    assert (received.path, received.json) == ("/v1/messages", ask(scene) | {"model": "stand-in"})
    assert (received.header("x-api-key"), received.header("authorization")) == (UPSTREAM_SECRET, None)
    assert received.header("anthropic-version")


async def test_an_answer_that_reaches_its_limit(scene: Scene, connect: Connect) -> None:
    answer = await done(connect(scene).messages.create(**ask(scene, "one two three", max_tokens=3, system="Be brief.")))

    assert (answer.content[0].text, answer.stop_reason) == ("You said one", "max_tokens")
    assert_settled(scene, Usage(input=2 * 3 + 2 + 3, output=3))


@BOTH
async def test_a_stream(scene: Scene, connect: Connect) -> None:
    got = await chunks(await done(connect(scene).messages.create(**ask(scene, "one two"), stream=True)))

    assert [one.type for one in got[:2]] == ["message_start", "content_block_start"]
    assert "".join(one.delta.text for one in got if one.type == "content_block_delta") == "You said one two"
    assert [one.type for one in got[-3:]] == ["content_block_stop", "message_delta", "message_stop"]
    [usage] = scene.upstream.ledger
    assert (got[0].message.usage.input_tokens, got[-2].usage.output_tokens) == (usage.input, usage.output)
    assert_settled(scene, usage, is_stream=True, end_reason="completed")


@BOTH
async def test_the_stream_helper(scene: Scene, connect: Connect) -> None:
    events, message = await told(connect(scene).messages.stream(**ask(scene, "one two")))

    assert "".join(one.text for one in events if one.type == "text") == "You said one two"
    assert (message.content[0].text, message.stop_reason) == ("You said one two", "end_turn")
    [usage] = scene.upstream.ledger
    assert (message.usage.input_tokens, message.usage.output_tokens) == (usage.input, usage.output)
    assert_settled(scene, usage, is_stream=True)


async def test_a_tool_is_called_and_its_result_is_answered(scene: Scene, connect: Connect) -> None:
    client = connect(scene)
    asked = ask(scene, "what about tomorrow", tools=[WEATHER])
    calling = await done(client.messages.create(**asked))
    [use] = calling.content
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use.id, "content": "rain"}]}
    turns = [*asked["messages"], {"role": "assistant", "content": [use.model_dump(exclude_none=True)]}, result]
    answer = await done(client.messages.create(**asked | {"messages": turns}))

    assert (calling.stop_reason, use.name, use.input) == ("tool_use", "weather", {"city": "some text", "days": 7})
    assert answer.content[0].text == "You said rain"
    expected = [charge(RATES, {"input_tokens": u.input, "output_tokens": u.output}) for u in scene.upstream.ledger]
    assert [row["charge"] for row in scene.rows()] == expected
    assert [row["bill"] for row in scene.rows()] == bills(expected)


async def test_a_streamed_tool_call(scene: Scene, connect: Connect) -> None:
    events, message = await told(connect(scene).messages.stream(**ask(scene, tools=[WEATHER])))

    assert "".join(one.partial_json for one in events if one.type == "input_json") == '{"city": "some text", "days": 7}'
    assert (message.content[0].name, message.content[0].input) == ("weather", {"city": "some text", "days": 7})
    assert_settled(scene, scene.upstream.ledger[0], is_stream=True)


async def test_what_is_read_from_the_cache_and_written_to_it_has_its_own_prices(new_scene: Callable[..., Scene], connect: Connect) -> None:
    scene = new_scene(rates=CACHE_RATES)
    block = {"type": "text", "text": "hi"}
    scene.upstream.answer(json=HEAD | {"content": [block], "stop_reason": "end_turn", "usage": CACHED})

    answer = await done(connect(scene).messages.create(**ask(scene, [LONG])))

    assert answer.usage.cache_creation.ephemeral_1h_input_tokens == 900
    row = assert_tokens(scene, input=3511, output=40, read=2000, written=1500)
    assert (row["charge"], row["flags"]) == (CACHED_CHARGE, None)
    assert row["bill"] == bills([CACHED_CHARGE])[0]


async def test_a_stream_tells_its_cache_first_and_its_output_last(new_scene: Callable[..., Scene], connect: Connect) -> None:
    scene = new_scene(rates=CACHE_RATES)
    start = event("message_start", message=HEAD | {"content": [], "usage": CACHED | {"output_tokens": 3}})
    end = event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage={"output_tokens": 40})
    scene.upstream.stream([start, *COLOURS[1:], event("content_block_stop", index=0), end, event("message_stop")])

    _, message = await told(connect(scene).messages.stream(**ask(scene, [LONG])))

    assert (message.usage.cache_read_input_tokens, message.usage.output_tokens) == (2000, 40)
    row = assert_tokens(scene, input=3511, output=40, read=2000, written=1500)
    assert (row["charge"], row["usage_source"], row["flags"]) == (CACHED_CHARGE, "provider", None)


async def test_counting_tokens_costs_nothing(new_scene: Callable[..., Scene], connect: Connect) -> None:
    scene = new_scene(credit="0")
    asked = ask(scene, "one two three", tools=[WEATHER])
    asked.pop("max_tokens")
    counted = await done(connect(scene).messages.count_tokens(**asked))

    assert counted.input_tokens == 3 + 3
    assert scene.upstream.requests[0].path == "/v1/messages/count_tokens"
    row = scene.row()
    assert (row["api"], row["status"], row["charge"], row["bill"]) == ("messages.count_tokens", "success", 0, 0)


async def test_a_wrong_key_is_an_authentication_error(scene: Scene, connect: Connect) -> None:
    with pytest.raises(anthropic.AuthenticationError) as refused:
        await done(connect(scene, api_key="sk-ant-nobody").messages.create(**ask(scene)))

    assert refused.value.type == "authentication_error"
    scene.assert_nothing_happened()
    assert scene.rows() == []


async def test_no_credit_is_a_payment_required_error(new_scene: Callable[..., Scene], connect: Connect) -> None:
    scene = new_scene(credit="0")
    with pytest.raises(anthropic.PaymentRequiredError) as refused:
        await done(connect(scene).messages.create(**ask(scene)))

    assert refused.value.type == "billing_error"
    assert "0.01" in refused.value.api_message  # 1,000 tokens at 10 a million, and a little for the prompt
    scene.assert_nothing_happened()
    assert_failed_for_nothing(scene)


async def test_an_unknown_model_is_not_found(scene: Scene, connect: Connect) -> None:
    with pytest.raises(anthropic.NotFoundError) as refused:
        await done(connect(scene).messages.create(**ask(scene) | {"model": "no-such-model"}))

    assert refused.value.type == "not_found_error"
    assert "no-such-model" in refused.value.api_message
    scene.assert_nothing_happened()
    assert_failed_for_nothing(scene)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_that_makes_no_sense_is_a_bad_request(scene: Scene, connect: Connect, stream: bool) -> None:
    with pytest.raises(anthropic.BadRequestError) as refused:
        await done(connect(scene).messages.create(**ask(scene, max_tokens=-1), stream=stream))

    assert refused.value.type == "invalid_request_error"
    assert "max_tokens" in refused.value.api_message
    scene.assert_nothing_happened()
    assert_failed_for_nothing(scene)


async def test_an_overloaded_upstream_is_passed_on(scene: Scene, connect: Connect) -> None:
    scene.upstream.answer(json=OVERLOADED, status=529, headers={"retry-after": "7"}, always=True)
    with pytest.raises(anthropic.InternalServerError) as failed:
        await done(connect(scene).messages.create(**ask(scene)))

    assert (failed.value.status_code, failed.value.body) == (529, OVERLOADED)
    assert failed.value.response.headers["retry-after"] == "7"
    assert_failed_for_nothing(scene)


async def test_our_own_key_that_an_upstream_refuses_is_not_the_callers_fault(scene: Scene, connect: Connect) -> None:
    refusal = {"type": "error", "error": {"type": "authentication_error", "message": f"invalid x-api-key: {UPSTREAM_SECRET}"}}
    scene.upstream.answer(json=refusal, status=401, always=True)
    with pytest.raises(anthropic.InternalServerError) as failed:
        await done(connect(scene).messages.create(**ask(scene)))

    assert (failed.value.status_code, failed.value.type) == (502, "api_error")
    assert UPSTREAM_SECRET not in failed.value.response.text
    assert_failed_for_nothing(scene)


async def test_an_error_in_the_middle_of_a_stream_is_raised_and_what_came_before_is_billed(scene: Scene, connect: Connect) -> None:
    scene.upstream.stream([*COLOURS[:5], event(**OVERLOADED)])
    stream = await done(connect(scene).messages.create(**ask(scene, "word " * 100), stream=True))
    with pytest.raises(anthropic.APIStatusError) as failed:
        await chunks(stream)

    assert failed.value.type == "overloaded_error"
    row = assert_tokens(scene, input=321, output=3, read=300)
    assert (row["status"], row["end_reason"], row["error_message"]) == ("failed", "upstream_error", "Overloaded")
    assert (row["usage_source"], row["charge"]) == ("estimated", charge(RATES, row))


async def test_a_stream_that_the_upstream_cuts_is_raised_and_billed_as_delivered(scene: Scene, connect: Connect) -> None:
    scene.upstream.cut(COLOURS, after=5)
    stream = await done(connect(scene).messages.create(**ask(scene, "word " * 100), stream=True))
    with pytest.raises(anthropic.APIStatusError) as failed:
        await chunks(stream)

    assert failed.value.type == "api_error"
    assert "incomplete" in failed.value.api_message
    row = assert_tokens(scene, input=321, output=3, read=300)
    assert (row["status"], row["end_reason"], row["charge"]) == ("failed", "upstream_broken", charge(RATES, row))


async def test_an_upstream_that_never_answers_is_a_gateway_timeout(impatient: Proxy, scene: Scene, connect: Connect) -> None:
    scene.known_to(impatient)
    scene.upstream.silence()
    scene.upstream.silence()
    with pytest.raises(anthropic.GatewayTimeoutError) as failed:
        await done(connect(scene, base_url=impatient.url).messages.create(**ask(scene)))

    assert failed.value.type == "timeout_error"
    assert_failed_for_nothing(scene)


async def test_a_client_that_times_out_is_billed_what_the_upstream_answers_in_the_end(scene: Scene, connect: Connect) -> None:
    gate = scene.upstream.hold()
    with pytest.raises(anthropic.APITimeoutError):
        await done(connect(scene, timeout=2).messages.create(**ask(scene, "are you there")))
    gate.open()

    row = scene.row()
    [usage] = scene.upstream.ledger
    assert (row["input_tokens"], row["output_tokens"], row["usage_source"]) == (usage.input, usage.output, "provider")
    assert (row["status"], row["end_reason"]) == ("success", "client_gone")
    assert row["charge"] == charge(RATES, row) > 0


@BOTH
async def test_a_client_that_leaves_a_stream_pays_the_input_as_told_and_the_output_as_delivered(scene: Scene, connect: Connect) -> None:
    scene.upstream.stream([*COLOURS, event("message_stop")], pauses={5: Gate()})

    stream = await done(connect(scene).messages.create(**ask(scene, "word " * 100), stream=True))
    delivered = await first_chunks(stream, 5)
    await done(stream.close())

    assert [one.delta.text for one in delivered[2:]] == [" red", " green", " blue"]
    wait_until(scene.upstream.requests[0].gone.is_set, what="the upstream's connection is closed")
    row = assert_tokens(scene, input=321, output=3, read=300)
    assert (row["status"], row["usage_source"], row["end_reason"]) == ("success", "estimated", "client_gone")
    assert row["charge"] == charge(RATES, row)
    assert row["bill"] == bills([row["charge"]])[0]
