"""What the official clients make of answers beyond reading them: raw responses and their ids, helpers that put streams together,
and answers parsed into types."""

from typing import Any

import openai
import pydantic
import pytest
from anthropic import APIStatusError

from tests.acceptance.conftest import BOTH, Connect, done
from tests.acceptance.test_anthropic_client import ask
from tests.acceptance.test_anthropic_client import connect as anthropic  # noqa: F401
from tests.acceptance.test_openai_client import WEATHER, assert_settled
from tests.acceptance.test_openai_client_failures import assert_failed_for_nothing
from tests.harness import honest_responses
from tests.harness.answers import Usage
from tests.harness.scene import Scene


class Person(pydantic.BaseModel):
    name: str
    age: int


async def told(manager: Any, final: str) -> tuple[list[Any], Any]:
    """All events of either client's stream helper, and what they come to."""
    if hasattr(manager, "__aenter__"):
        async with manager as stream:
            return [one async for one in stream], await getattr(stream, final)()
    with manager as stream:
        return list(stream), getattr(stream, final)()


@BOTH
async def test_openai_raw_responses_carry_the_id_of_the_row(scene: Scene, connect: Connect) -> None:
    raw = await done(connect(scene).chat.completions.with_raw_response.create(**scene.chat("how are you")))

    assert raw.http_response.status_code == 200
    assert raw.parse().choices[0].message.content == "You said how are you"
    assert raw.request_id == str(assert_settled(scene, scene.upstream.ledger[0])["request_id"])


async def test_openai_raw_stream(scene: Scene, connect: Connect) -> None:
    raw = await done(connect(scene).responses.with_raw_response.create(model=scene.model, input="one two", stream=True))

    assert raw.headers["content-type"].startswith("text/event-stream")
    assert [event.type for event in raw.parse()][-1] == "response.completed"
    assert raw.request_id == str(assert_settled(scene, scene.upstream.ledger[0], is_stream=True)["request_id"])


async def test_openai_errors_carry_the_id_of_the_row(scene: Scene, connect: Connect) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        await done(connect(scene).chat.completions.create(**scene.chat() | {"model": "no-such-model"}))

    assert refused.value.request_id == str(assert_failed_for_nothing(scene)["request_id"])


@BOTH
async def test_openai_chat_stream_helper(scene: Scene, connect: Connect) -> None:
    events, final = await told(connect(scene).chat.completions.stream(**scene.chat("one two")), "get_final_completion")

    assert [event.snapshot for event in events if event.type == "content.delta"][-1] == "You said one two"
    assert (final.choices[0].message.content, final.usage) == ("You said one two", None)
    assert_settled(scene, scene.upstream.ledger[0], is_stream=True, end_reason="completed")


async def test_openai_chat_stream_helper_with_usage_and_a_tool(scene: Scene, connect: Connect) -> None:
    asked = scene.chat(tools=[WEATHER], stream_options={"include_usage": True})
    events, final = await told(connect(scene).chat.completions.stream(**asked), "get_final_completion")

    assert [event.arguments for event in events if event.type == "tool_calls.function.arguments.done"] == [
        '{"city": "some text", "days": 7}'
    ]
    [usage] = scene.upstream.ledger
    assert (final.usage.prompt_tokens, final.usage.completion_tokens) == (usage.input, usage.output)
    assert_settled(scene, usage, is_stream=True)


async def test_openai_chat_answer_parsed_into_a_type(scene: Scene, connect: Connect) -> None:
    answer = await done(connect(scene).chat.completions.parse(**scene.chat(), response_format=Person))

    assert answer.choices[0].message.parsed == Person(name="some text", age=7)
    assert_settled(scene, scene.upstream.ledger[0])


async def test_openai_streamed_chat_parsed_into_a_type(scene: Scene, connect: Connect) -> None:
    _, final = await told(connect(scene).chat.completions.stream(**scene.chat(), response_format=Person), "get_final_completion")

    assert final.choices[0].message.parsed == Person(name="some text", age=7)
    assert_settled(scene, scene.upstream.ledger[0], is_stream=True)


@pytest.mark.parametrize("streamed", [False, True])
async def test_openai_response_parsed_into_a_type(scene: Scene, connect: Connect, streamed: bool) -> None:
    client, asked = connect(scene).responses, {"model": scene.model, "input": "who is it", "text_format": Person}
    usage = Usage(input=12, output=5)
    said: dict[str, Any] = {"words": ['{"name":', '"Ada",', '"age":', "36}"], "call": None, "is_cut": False, "usage": usage}
    if streamed:
        scene.upstream.stream([*honest_responses.events({"model": "stand-in"}, **said)], usage=usage)
        _, answer = await told(client.stream(**asked), "get_final_response")
    else:
        scene.upstream.answer(json=honest_responses.whole({"model": "stand-in"}, **said), usage=usage)
        answer = await done(client.parse(**asked))

    assert answer.output_parsed == Person(name="Ada", age=36)
    assert scene.upstream.requests[0].json["text"]["format"]["type"] == "json_schema"
    assert_settled(scene, usage, is_stream=streamed)


@pytest.mark.parametrize("anthropic", ["sync", "async"], indirect=True)
async def test_anthropic_answers_carry_the_id_of_the_row(scene: Scene, anthropic: Connect) -> None:  # noqa: F811
    answer = await done(anthropic(scene).messages.create(**ask(scene, "how are you")))

    assert answer._request_id == str(assert_settled(scene, scene.upstream.ledger[0])["request_id"])


async def test_anthropic_raw_responses_carry_the_id_of_the_row(scene: Scene, anthropic: Connect) -> None:  # noqa: F811
    raw = await done(anthropic(scene).messages.with_raw_response.create(**ask(scene, "how are you")))

    assert raw.parse().content[0].text == "You said how are you"
    assert raw.request_id == str(assert_settled(scene, scene.upstream.ledger[0])["request_id"])


async def test_anthropic_stream_helper_carries_the_id_of_the_row(scene: Scene, anthropic: Connect) -> None:  # noqa: F811
    with anthropic(scene).messages.stream(**ask(scene, "one two")) as stream:
        assert "".join(stream.text_stream) == "You said one two"
        shown = stream.request_id

    assert shown == str(assert_settled(scene, scene.upstream.ledger[0], is_stream=True)["request_id"])


async def test_anthropic_errors_carry_the_id_of_the_row(scene: Scene, anthropic: Connect) -> None:  # noqa: F811
    with pytest.raises(APIStatusError) as refused:
        await done(anthropic(scene).messages.create(**ask(scene) | {"model": "no-such-model"}))

    assert refused.value.request_id == str(assert_failed_for_nothing(scene)["request_id"])


async def test_anthropic_beta_messages(scene: Scene, anthropic: Connect) -> None:  # noqa: F811
    """What comes under a name of its own in the client is the same protocol, with the betas in a header."""
    answer = await done(
        anthropic(scene).beta.messages.create(**ask(scene, "one two"), betas=["effort-2025-11-24", "context-management-2025-06-27"])
    )

    assert answer.content[0].text == "You said one two"
    assert scene.upstream.requests[0].header("anthropic-beta") == "effort-2025-11-24,context-management-2025-06-27"
    assert_settled(scene, scene.upstream.ledger[0], api="messages")
