"""`X-Include-Cost: 1`: the charge of the call's own row stands in the usage that its client reads, written as the number that
it is; nothing else of the answer changes."""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest
from google import genai
from google.genai import types as google_types

from tests.acceptance.conftest import Connect, chunks, done
from tests.harness.answers import Gate, Usage
from tests.harness.books import wait_until
from tests.harness.scene import Scene
from tests.harness.tls import NO_TLS

ASKING = {"X-Include-Cost": "1"}
RATES = {"input": "0.0123456789", "output": "1.1", "cache_read": "0.7"}
"""Charges of many digits."""
TURN = [{"role": "user", "content": "hello there"}]


@pytest.fixture
def scene(new_scene: Callable[..., Scene]) -> Scene:
    return new_scene(rates=RATES)


def bodies(scene: Scene) -> dict[str, tuple[str, dict[str, Any]]]:
    said = {"contents": [{"role": "user", "parts": [{"text": "hello there"}]}]}
    return {
        "chat": ("/v1/chat/completions", scene.chat()),
        "completions": ("/v1/completions", {"model": scene.model, "prompt": "hello there"}),
        "embeddings": ("/v1/embeddings", {"model": scene.model, "input": ["red green", "blue"]}),
        "responses": ("/v1/responses", {"model": scene.model, "input": "hello there"}),
        "messages": ("/v1/messages", {"model": scene.model, "max_tokens": 99, "messages": TURN}),
        "gemini": (f"/v1beta/models/{scene.model}:generateContent", said),
        "streamed chat": ("/v1/chat/completions", scene.chat(stream=True)),
        "streamed chat with usage": ("/v1/chat/completions", scene.chat(stream=True, stream_options={"include_usage": True})),
        "streamed responses": ("/v1/responses", {"model": scene.model, "input": "hello there", "stream": True}),
        "streamed messages": ("/v1/messages", {"model": scene.model, "max_tokens": 99, "messages": TURN, "stream": True}),
        "streamed gemini": (f"/v1beta/models/{scene.model}:streamGenerateContent?alt=sse", said),
    }


UNARY = ["chat", "completions", "embeddings", "responses", "messages", "gemini"]
STREAMED = ["streamed chat", "streamed chat with usage", "streamed responses", "streamed messages", "streamed gemini"]


@pytest.mark.parametrize("kind", UNARY + STREAMED)
def test_the_answer_tells_the_charge_of_its_row_and_is_else_the_same(scene: Scene, kind: str) -> None:
    path, body = bodies(scene)[kind]
    plain = scene.post(body | ({"stream_options": {"include_usage": True}} if kind == "streamed chat" else {}), path)

    told = scene.post(body, path, headers=ASKING)

    wait_until(lambda: len(scene.rows()) == 2, what="both rows")
    charge = scene.rows()[1]["charge"]
    assert charge == scene.rows()[0]["charge"] > 0
    number = f'"cost":{format(charge.normalize(), "f")}'
    assert told.text.count('"cost"') == 1
    assert told.text.replace(f",{number}", "") == plain.text
    assert told.status_code == 200
    if kind in UNARY:
        assert int(told.headers["content-length"]) == len(told.content) == len(plain.content) + len(number) + 1


def test_nobody_else_is_told(scene: Scene) -> None:
    assert b"cost" not in scene.post(scene.chat()).content
    assert b"cost" not in scene.post(scene.chat(stream=True), headers={"X-Include-Cost": "0"}).content
    assert [request.header("x-include-cost") for request in scene.upstream.requests] == [None, None]


def _answers(scene: Scene, usage: Usage, **more: Any) -> None:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}
    scene.upstream.answer(json={"id": "c", "choices": [choice], "usage": usage.chat() | more})


def _sum(explained: Any) -> Decimal:
    return round(sum((Decimal(item["amount"]) for item in explained["line_items"]), Decimal(0)), 10)


def _told(answer: httpx.Response) -> Decimal:
    return Decimal(json.loads(answer.content, parse_float=Decimal, parse_int=Decimal)["usage"]["cost"])


def test_a_cost_cut_at_the_hold_is_told_as_it_is_charged(scene: Scene) -> None:
    _answers(scene, Usage(input=40_000, output=10))

    answer = scene.post(scene.chat(max_tokens=5), headers=ASKING)

    assert scene.row()["flags"] == ["cut_at_hold"]
    assert _told(answer) == scene.row()["charge"] < Decimal(40000) * Decimal(RATES["input"]) / 1_000_000


@pytest.mark.parametrize("is_stream", [False, True], ids=["unary", "streamed"])
@pytest.mark.parametrize(("credit", "written_off"), [("100", False), ("0.0005", True)], ids=["paid", "written off in part"])
def test_a_cost_above_the_hold_is_told_as_far_as_it_is_paid(
    new_scene: Callable[..., Scene], credit: str, written_off: bool, is_stream: bool
) -> None:
    scene = new_scene(credit=credit, rates=RATES)
    usage = Usage(input=40_000, output=1000)
    if is_stream:
        chunk = {"id": "c", "choices": [], "usage": usage.chat()}
        scene.upstream.stream([chunk, "[DONE]"])
    else:
        _answers(scene, usage)
    body = scene.chat(max_tokens=5, stream=is_stream, web_search_options={})

    answer = scene.post(body, headers=ASKING)

    row = scene.row()
    assert (row["write_off"] > 0) is written_off
    number = f'"cost":{format(row["charge"].normalize(), "f")}'
    assert row["charge"] > 0
    assert number + "}" in answer.text


def test_what_an_upstream_costs_the_operator_gives_way(scene: Scene) -> None:
    _answers(scene, Usage(input=5, output=3), cost=0.25, cost_details={"upstream_inference_cost": None})

    answer = scene.post(scene.chat(), headers=ASKING)

    assert _told(answer) == scene.row()["charge"]
    assert answer.text.count('"cost"') == 1


def test_an_estimated_call_has_no_usage_to_tell_it_in_and_its_row_explains_it(scene: Scene) -> None:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}
    scene.upstream.answer(json={"id": "c", "choices": [choice]})

    answer = scene.post(scene.chat(), headers=ASKING)

    assert "usage" not in answer.json()
    explained = scene.http.get(f"/logs/{answer.headers['x-request-id']}").json()
    assert (explained["usage_source"], Decimal(explained["charge"])) == ("estimated", scene.row()["charge"])
    assert _sum(explained) == scene.row()["charge"]


def test_an_error_is_passed_as_it_is(scene: Scene) -> None:
    body = b'{"error":{"message":"no"},"usage":{"prompt_tokens":1}}'
    scene.upstream.answer(body=body, status=400)

    assert scene.post(scene.chat(), headers=ASKING).content == body


def test_a_model_that_is_let_through_without_a_price_costs_nothing(new_scene: Callable[..., Scene]) -> None:
    scene = new_scene(rates={"input": "0", "output": "0"})

    assert '"cost":0}' in scene.post(scene.chat(), headers=ASKING).text


def test_a_stream_that_breaks_after_its_usage_tells_what_is_charged(scene: Scene) -> None:
    word = {"id": "c", "choices": [{"index": 0, "delta": {"content": "hi"}}]}
    scene.upstream.cut([word, {"id": "c", "choices": [], "usage": Usage(input=5, output=1).chat()}, "[DONE]"], after=2, how="fin")

    answer = scene.post(scene.chat(stream=True), headers=ASKING)

    assert scene.row()["charge"] > 0
    assert f'"cost":{format(scene.row()["charge"].normalize(), "f")}' in answer.text


def test_words_are_not_kept_waiting(scene: Scene) -> None:
    gate = Gate()
    words = [{"id": "c", "choices": [{"index": 0, "delta": {"content": word}}]} for word in ("red", "green")]
    scene.upstream.stream([*words, "[DONE]"], pauses={1: gate})

    with scene.http.stream("POST", "/v1/chat/completions", json=scene.chat(stream=True), headers=ASKING) as answer:
        lines = answer.iter_lines()
        assert "red" in next(lines)
        gate.open()
        assert "green" in "".join(lines)


async def test_the_openai_client_reads_it(scene: Scene, connect: Connect) -> None:
    client = connect(scene, default_headers=ASKING)

    answer = await done(client.chat.completions.create(**scene.chat()))
    got = await chunks(await done(client.chat.completions.create(**scene.chat(), stream=True)))
    response = await done(client.responses.create(model=scene.model, input="hello there"))
    embedded = await done(client.embeddings.create(model=scene.model, input="red green"))

    assert (got[-1].choices, "".join(chunk.choices[0].delta.content or "" for chunk in got[:-1])) == ([], "You said hello there")
    told = [one.usage.cost for one in (answer, got[-1], response, embedded)]
    assert told == [float(row["charge"]) for row in scene.rows()]


def test_the_anthropic_client_reads_it(scene: Scene) -> None:
    with httpx2.Client(trust_env=False, verify=False) as plain:
        client = anthropic.Anthropic(api_key=scene.key, base_url=scene.proxy.url, http_client=plain, default_headers=ASKING)
        message = client.messages.create(model=scene.model, max_tokens=99, messages=TURN)  # type: ignore[arg-type]
        with client.messages.stream(model=scene.model, max_tokens=99, messages=TURN) as stream:  # type: ignore[arg-type]
            deltas = [event for event in stream if event.type == "message_delta"]

    told = [message.usage.cost, deltas[0].usage.cost]  # type: ignore[attr-defined]
    assert told == [float(row["charge"]) for row in scene.rows()]


def test_the_google_client_takes_it(scene: Scene) -> None:
    with httpx2.Client(trust_env=False, verify=False) as plain:
        options = google_types.HttpOptions(base_url=scene.proxy.url, httpx_client=plain, headers=ASKING)
        client = genai.Client(api_key=scene.key, http_options=options)
        answer = client.models.generate_content(model=scene.model, contents="hello there")
        streamed = list(client.models.generate_content_stream(model=scene.model, contents="hello there"))

    assert answer.text == "".join(part.text or "" for part in streamed) == "You said hello there"
    assert len(scene.rows()) == 2


def test_any_client_finds_its_call_explained(scene: Scene) -> None:
    with httpx.Client(trust_env=False, verify=NO_TLS) as plain:
        client = openai.OpenAI(api_key=scene.key, base_url=f"{scene.proxy.url}/v1", http_client=plain, max_retries=0)
        raw = client.chat.completions.with_raw_response.create(**scene.chat())
        explained = client.get(f"{scene.proxy.url}/logs/{raw.headers['x-request-id']}", cast_to=object)

    assert Decimal(explained["charge"]) == scene.row()["charge"] == _sum(explained)  # type: ignore[index]
