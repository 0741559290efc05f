"""`langchain-openai` can't tell the proxy from OpenAI: chat, streams, tools, Responses and embeddings, one row a call."""

from collections.abc import Iterator

import pytest

from tests.acceptance.test_openai_client import assert_settled
from tests.clients.driver import ROOT, Driver, driver
from tests.clients.ledger import assert_each_call_billed
from tests.harness.scene import Scene

PLACE = ROOT / ".venv" / "langchain"


@pytest.fixture(scope="module")
def langchain() -> Iterator[Driver]:
    yield from driver([PLACE / "bin" / "python", "langchain_client.py"], needs=PLACE / "installed", named="langchain-openai")


def usage_of(scene: Scene) -> dict[str, int]:
    [usage] = scene.upstream.ledger
    return {"input_tokens": usage.input, "output_tokens": usage.output, "total_tokens": usage.input + usage.output}


@pytest.mark.parametrize(("step", "api"), [("invoke", "chat.completions"), ("responses", "responses")])
def test_an_answer(langchain: Driver, scene: Scene, step: str, api: str) -> None:
    answer = langchain.do(step, scene)

    assert answer["text"] == "You said how are you"
    assert usage_of(scene).items() <= answer["usage"].items()
    assert_settled(scene, scene.upstream.ledger[0], api=api, is_stream=False)


@pytest.mark.parametrize(("step", "api"), [("stream_with_usage", "chat.completions"), ("responses_stream", "responses")])
def test_a_stream_that_tells_its_usage(langchain: Driver, scene: Scene, step: str, api: str) -> None:
    answer = langchain.do(step, scene)

    assert answer["texts"] == ["You", " said", " one", " two", " three"]
    assert usage_of(scene).items() <= answer["usage"].items()
    assert_settled(scene, scene.upstream.ledger[0], api=api, is_stream=True, end_reason="completed")


def test_a_stream_whose_client_does_not_ask_for_usage_sees_none_and_is_billed(langchain: Driver, scene: Scene) -> None:
    answer = langchain.do("stream", scene)

    assert ("".join(answer["texts"]), answer["usage"]) == ("You said one two three", None)
    assert_settled(scene, scene.upstream.ledger[0], is_stream=True)


@pytest.mark.parametrize("step", ["tools", "responses_tools"])
def test_a_tool_is_called_and_its_result_is_answered(langchain: Driver, scene: Scene, step: str) -> None:
    answer = langchain.do(step, scene)

    assert (answer["name"], answer["args"]) == ("weather", {"city": "some text", "days": 7})
    assert answer["text"] == "You said rain in some text for 7 days"
    assert_each_call_billed(scene, 2)


def test_structured_output(langchain: Driver, scene: Scene) -> None:
    assert langchain.do("structured", scene) == {"name": "some text", "age": 7}
    assert_settled(scene, scene.upstream.ledger[0])


def test_embeddings(langchain: Driver, scene: Scene) -> None:
    assert langchain.do("embeddings", scene) == [[0.25, -0.5] * 4] * 3
    assert_each_call_billed(scene, 2)
