"""The npm clients `openai` and `@anthropic-ai/sdk` can't tell the proxy from the providers: one row a call, bills exact."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.test_openai_client import assert_settled
from tests.acceptance.test_openai_client_failures import assert_failed_for_nothing
from tests.clients.driver import Driver, driver
from tests.clients.ledger import assert_each_call_billed
from tests.harness.answers import Usage
from tests.harness.scene import Scene

HERE = Path(__file__).parent / "node"
ARGS = {"city": "some text", "days": 7}


def started(script: str, package: str) -> Iterator[Driver]:
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node here")
    yield from driver([node, f"node/{script}"], needs=HERE / "node_modules" / package, named=f"the npm package {package}")


@pytest.fixture(scope="module")
def openai() -> Iterator[Driver]:
    yield from started("openai.mjs", "openai")


@pytest.fixture(scope="module")
def anthropic() -> Iterator[Driver]:
    yield from started("anthropic.mjs", "@anthropic-ai/sdk")


def counts(usage: Usage) -> dict[str, int]:
    return {"input_tokens": usage.input, "output_tokens": usage.output}


def test_openai_chat(openai: Driver, scene: Scene) -> None:
    answer = openai.do("chat", scene)

    [usage] = scene.upstream.ledger
    assert (answer["text"], answer["usage"]) == ("You said how are you", usage.chat())
    row = assert_settled(scene, usage, api="chat.completions", is_stream=False)
    assert answer["id"] == str(row["request_id"])


def test_openai_stream_shows_no_usage_that_was_not_asked_for(openai: Driver, scene: Scene) -> None:
    answer = openai.do("stream", scene)

    assert answer["text"] == "You said one two"
    assert (set(answer["usage"]), set(answer["choices"])) == ({None}, {1})
    assert_settled(scene, scene.upstream.ledger[0], is_stream=True, end_reason="completed")


def test_openai_stream_with_usage(openai: Driver, scene: Scene) -> None:
    answer = openai.do("streamWithUsage", scene)

    [usage] = scene.upstream.ledger
    assert (answer["text"], answer["usage"]) == ("You said one two", usage.chat())
    assert_settled(scene, usage, is_stream=True)


def test_openai_stream_helper_calls_a_tool(openai: Driver, scene: Scene) -> None:
    [call] = openai.do("streamHelper", scene)

    assert (call["name"], call["arguments"]) == ("weather", '{"city": "some text", "days": 7}')
    assert_settled(scene, scene.upstream.ledger[0], is_stream=True)


@pytest.mark.parametrize(("step", "text"), [("responses", "You said how are you"), ("responsesStream", "You said one two")])
def test_openai_responses(openai: Driver, scene: Scene, step: str, text: str) -> None:
    answer = openai.do(step, scene)

    [usage] = scene.upstream.ledger
    assert answer["text"] == text
    assert counts(usage).items() <= answer["usage"].items()
    assert answer.get("last") in (None, "response.completed")
    assert_settled(scene, usage, api="responses", is_stream=step == "responsesStream")


def test_openai_responses_call_a_tool_and_take_its_output(openai: Driver, scene: Scene) -> None:
    assert openai.do("responsesTool", scene) == {"name": "weather", "args": ARGS, "text": "You said rain"}
    assert_each_call_billed(scene, 2)


def test_openai_embeddings(openai: Driver, scene: Scene) -> None:
    assert openai.do("embeddings", scene) == [[0.25, -0.5] * 4] * 2
    assert_settled(scene, scene.upstream.ledger[0], api="embeddings")


def test_openai_raises_what_it_raises_for_an_unknown_model(openai: Driver, scene: Scene) -> None:
    error = openai.do("wrongModel", scene)

    row = assert_failed_for_nothing(scene)
    assert error == {"kind": "NotFoundError", "status": 404, "code": "model_not_found", "id": str(row["request_id"])}


def test_anthropic_message(anthropic: Driver, scene: Scene) -> None:
    answer = anthropic.do("message", scene)

    [usage] = scene.upstream.ledger
    assert answer["text"] == "You said how are you"
    assert counts(usage).items() <= answer["usage"].items()
    row = assert_settled(scene, usage, api="messages", is_stream=False)
    assert answer["id"] == str(row["request_id"])


def test_anthropic_stream(anthropic: Driver, scene: Scene) -> None:
    assert anthropic.do("stream", scene) == {"text": "You said one two", "last": "message_stop"}
    assert_settled(scene, scene.upstream.ledger[0], is_stream=True, end_reason="completed")


def test_anthropic_stream_helper(anthropic: Driver, scene: Scene) -> None:
    answer = anthropic.do("streamHelper", scene)

    [usage] = scene.upstream.ledger
    assert answer["text"] == "You said one two"
    assert counts(usage).items() <= answer["usage"].items()
    assert answer["id"] == str(assert_settled(scene, usage, is_stream=True)["request_id"])


def test_anthropic_beta_calls_keep_their_marks(anthropic: Driver, scene: Scene) -> None:
    assert anthropic.do("beta", scene) == {"text": "You said one two"}

    [received] = scene.upstream.requests
    assert received.header("anthropic-beta") == "context-management-2025-06-27,effort-2025-11-24"
    assert_settled(scene, scene.upstream.ledger[0], api="messages", is_stream=True)


def test_anthropic_tool(anthropic: Driver, scene: Scene) -> None:
    assert anthropic.do("tool", scene) == {"name": "weather", "args": ARGS, "text": "You said rain"}
    assert_each_call_billed(scene, 2)


def test_anthropic_counts_tokens_for_nothing(anthropic: Driver, scene: Scene) -> None:
    assert anthropic.do("countTokens", scene) == 3 + 3
    row = scene.row()
    assert (row["api"], row["status"], row["charge"]) == ("messages.count_tokens", "success", 0)


def test_anthropic_raises_what_it_raises_for_an_unknown_model(anthropic: Driver, scene: Scene) -> None:
    error = anthropic.do("wrongModel", scene)

    row = assert_failed_for_nothing(scene)
    assert error == {"kind": "NotFoundError", "status": 404, "type": "not_found_error", "id": str(row["request_id"])}
