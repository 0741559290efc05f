"""The official `openai` client, sync and async, can't tell the proxy from OpenAI, and every call leaves one row with
the tokens that the upstream counted and the bill that they come to, to the last digit."""

from decimal import Decimal
from typing import Any

from tests.acceptance.conftest import BOTH, Connect, chunks, done
from tests.harness.answers import Usage
from tests.harness.books import bills, charge
from tests.harness.scene import RATES, Scene

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
    },
}
PERSON = {
    "type": "json_schema",
    "json_schema": {
        "name": "person",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
            "required": ["name", "age"],
            "additionalProperties": False,
        },
    },
}


def assert_settled(scene: Scene, usage: Usage, **columns: Any) -> dict[str, Any]:
    """The one row holds the stand-in's counts, and the charge and bill that follow from them."""
    row = scene.row()
    assert (row["input_tokens"], row["output_tokens"]) == (usage.input, usage.output)
    assert (row["cache_read_tokens"] or 0, row["reasoning_tokens"] or 0) == (usage.cached, usage.reasoning)
    assert row["charge"] == charge(RATES, row)
    assert row["bill"] == bills([row["charge"]])[0]
    expected = {
        "status": "success",
        "usage_source": "provider",
        "model_name": scene.model,
        "http_status": 200,
    } | columns
    assert {name: row[name] for name in expected} == expected
    account = scene.account()
    assert (account["spent"], account["billed"], account["held"]) == (row["charge"], row["bill"], 0)
    return row


@BOTH
async def test_chat(scene: Scene, connect: Connect) -> None:
    answer = await done(connect(scene).chat.completions.create(**scene.chat("how are you")))

    assert answer.choices[0].message.content == "You said how are you"
    [usage] = scene.upstream.ledger
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (usage.input, usage.output)
    row = assert_settled(scene, usage, is_stream=False, api="chat.completions")
    assert row["upstream_id"] == scene.upstream_id
    assert row["upstream_model"] == "stand-in"
    assert row["api_key_id"] == scene.key_id
    assert row["request_ip"] == "127.0.0.1"


async def test_several_calls_bill_the_exact_sum(scene: Scene, connect: Connect) -> None:
    client = connect(scene)
    for words in (1, 20, 300, 4):
        await done(client.chat.completions.create(**scene.chat("word " * words)))

    rows = scene.rows()
    expected = [charge(RATES, {"input_tokens": u.input, "output_tokens": u.output}) for u in scene.upstream.ledger]
    assert [row["charge"] for row in rows] == expected
    assert [row["bill"] for row in rows] == bills(expected)
    assert len({row["request_id"] for row in rows}) == 4


async def test_cached_and_reasoning_tokens_have_their_own_prices(scene: Scene, connect: Connect) -> None:
    usage = Usage(input=120, output=90, cached=64, reasoning=32)
    head = {"id": "c", "object": "chat.completion", "created": 1, "model": "stand-in", "usage": usage.chat()}
    message = {"role": "assistant", "content": "hi"}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    scene.upstream.answer(json=head | {"choices": [choice]}, usage=usage)

    await done(connect(scene).chat.completions.create(**scene.chat("word " * 200)))

    row = assert_settled(scene, usage)
    assert row["charge"] == (Decimal("2.5") * (120 - 64) + Decimal("0.25") * 64 + 10 * 90) / 1_000_000


@BOTH
async def test_stream_without_include_usage_shows_none_and_is_billed_all_the_same(scene: Scene, connect: Connect) -> None:
    stream = await done(connect(scene).chat.completions.create(**scene.chat("one two three"), stream=True))
    got = await chunks(stream)

    assert "".join(chunk.choices[0].delta.content or "" for chunk in got) == "You said one two three"
    assert all(chunk.choices for chunk in got)
    assert scene.upstream.requests[0].json["stream_options"] == {"include_usage": True}
    assert_settled(scene, scene.upstream.ledger[0], is_stream=True)


@BOTH
async def test_stream_with_include_usage_shows_it_last(scene: Scene, connect: Connect) -> None:
    asked = scene.chat("one two three") | {"stream_options": {"include_usage": True}}
    got = await chunks(await done(connect(scene).chat.completions.create(**asked, stream=True)))

    [usage] = scene.upstream.ledger
    assert got[-1].choices == []
    assert (got[-1].usage.prompt_tokens, got[-1].usage.completion_tokens) == (usage.input, usage.output)
    assert_settled(scene, usage, is_stream=True)


async def test_stream_that_declines_usage_shows_none(scene: Scene, connect: Connect) -> None:
    asked = scene.chat("one two") | {"stream_options": {"include_usage": False}}
    got = await chunks(await done(connect(scene).chat.completions.create(**asked, stream=True)))

    assert all(chunk.choices for chunk in got)
    assert_settled(scene, scene.upstream.ledger[0])


async def test_tool_calls(scene: Scene, connect: Connect) -> None:
    answer = await done(connect(scene).chat.completions.create(**scene.chat(), tools=[WEATHER]))

    [call] = answer.choices[0].message.tool_calls
    assert (call.function.name, call.function.arguments) == ("weather", '{"city": "some text", "days": 7}')
    assert answer.choices[0].finish_reason == "tool_calls"
    assert_settled(scene, scene.upstream.ledger[0])


async def test_streamed_tool_calls(scene: Scene, connect: Connect) -> None:
    stream = await done(connect(scene).chat.completions.create(**scene.chat(), tools=[WEATHER], stream=True))
    calls = [chunk.choices[0].delta.tool_calls[0] for chunk in await chunks(stream) if chunk.choices[0].delta.tool_calls]

    assert calls[0].function.name == "weather"
    assert "".join(call.function.arguments for call in calls) == '{"city": "some text", "days": 7}'
    assert_settled(scene, scene.upstream.ledger[0], is_stream=True)


async def test_json_schema_output(scene: Scene, connect: Connect) -> None:
    answer = await done(connect(scene).chat.completions.create(**scene.chat(), response_format=PERSON))

    assert answer.choices[0].message.content == '{"name": "some text", "age": 7}'
    assert scene.upstream.requests[0].json["response_format"] == PERSON
    assert_settled(scene, scene.upstream.ledger[0])


async def test_several_choices(scene: Scene, connect: Connect) -> None:
    answer = await done(connect(scene).chat.completions.create(**scene.chat("twice"), n=2, max_tokens=50))

    assert [choice.index for choice in answer.choices] == [0, 1]
    assert_settled(scene, scene.upstream.ledger[0])


@BOTH
async def test_embeddings(scene: Scene, connect: Connect) -> None:
    answer = await done(connect(scene).embeddings.create(model=scene.model, input=["red green", "blue"], dimensions=4))

    assert [item.embedding for item in answer.data] == [[0.25, -0.5, 0.25, -0.5]] * 2
    row = assert_settled(scene, scene.upstream.ledger[0], api="embeddings")
    assert (row["input_tokens"], row["output_tokens"]) == (3, 0)


async def test_completions(scene: Scene, connect: Connect) -> None:
    answer = await done(connect(scene).completions.create(model=scene.model, prompt="once upon a time", max_tokens=20))

    assert answer.choices[0].text == "You said once upon a time"
    assert_settled(scene, scene.upstream.ledger[0], api="completions")


async def test_models_lists_what_the_operator_offers(scene: Scene, connect: Connect) -> None:
    page = await done(connect(scene).models.list())

    assert scene.model in [model.id for model in page.data]
    assert scene.upstream.requests == []
    assert scene.rows() == []
