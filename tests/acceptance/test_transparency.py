"""What the upstream and the client see of the proxy: nothing but what DESIGN.md section 4 says. Bytes, headers,
timing."""

import asyncio
import gzip
import json
from collections.abc import Callable
from uuid import UUID

import httpx
import pytest

from tests.harness.answers import Gate, Usage
from tests.harness.books import wait_until
from tests.harness.scene import UPSTREAM_SECRET, Scene
from tests.harness.tls import NO_TLS

PASS = {
    "openai-beta": "assistants=v2",
    "anthropic-beta": "tools-2024",
    "anthropic-version": "2023-06-01",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
}
STAY = {
    "cookie": "session=1",
    "openai-organization": "org-of-the-client",
    "openai-project": "proj-of-the-client",
    "x-forwarded-for": "10.1.2.3",
    "x-forwarded-host": "inner.example",
    "proxy-authorization": "Basic eA==",
    "te": "trailers",
}
CHUNK = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}


def chunk(text: str) -> dict[str, object]:
    return CHUNK | {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}


def test_headers_that_matter_to_the_upstream_pass_and_the_others_stay(scene: Scene) -> None:
    assert scene.post(scene.chat(), headers=PASS | STAY).status_code == 200

    [received] = scene.upstream.requests
    assert {name: received.header(name) for name in PASS} == PASS
    assert {name: received.header(name) for name in STAY} == dict.fromkeys(STAY)
    assert received.header("authorization") == f"Bearer {UPSTREAM_SECRET}"
    assert received.header("accept-encoding") == "identity"
    assert received.header("content-type") == "application/json"
    assert scene.key not in str(received.headers)


def test_a_key_in_x_api_key_is_accepted_and_stays_here(scene: Scene) -> None:
    with httpx.Client(base_url=scene.proxy.url, trust_env=False, verify=NO_TLS) as client:
        answer = client.post("/v1/chat/completions", json=scene.chat(), headers={"x-api-key": scene.key})

    assert answer.status_code == 200
    assert scene.key not in str(scene.upstream.requests[0].headers)


def test_the_upstreams_account_and_limits_do_not_come_back(scene: Scene) -> None:
    ours = {
        "openai-organization": "org-of-the-operator",
        "x-ratelimit-remaining-requests": "17",
        "set-cookie": "__cf_bm=1",
        "x-request-id": "req_upstream",
    }
    scene.upstream.answer(json={"choices": [], "usage": Usage(3, 2).chat()}, headers=ours)

    answer = scene.post(scene.chat())

    assert answer.status_code == 200
    assert not [name for name, value in ours.items() if answer.headers.get(name) == value]


def test_every_answer_carries_the_request_id_of_its_row(scene: Scene) -> None:
    good, refused = scene.post(scene.chat()), scene.post({"model": scene.model})
    unknown = httpx.get(f"{scene.proxy.url}/v1/nothing", trust_env=False, verify=NO_TLS)

    ids = [UUID(answer.headers["x-request-id"]) for answer in (good, refused, unknown)]
    assert len(set(ids)) == 3
    assert all(request_id.version == 7 for request_id in ids)
    wait_until(lambda: len(scene.rows()) == 2, what="a row for the call and one for the refusal")
    assert [row["request_id"] for row in scene.rows()] == ids[:2]


def test_the_body_goes_on_byte_for_byte_when_the_name_is_the_upstreams_own(new_scene: Callable[..., Scene]) -> None:
    scene = new_scene(model="same-name", upstream_model="same-name")
    messages = '[{"role":"user","content":"caf\\u00e9 \U0001f600"}]'
    body = '{ "model":"same-name",\n"messages" : ' + messages + ', "seed": 1e2, "x_new": {"b":1.0,"a":null}}'

    assert scene.post(content=body.encode(), headers={"content-type": "application/json"}).status_code == 200
    assert scene.upstream.requests[0].body == body.encode()


def test_a_mapped_model_changes_the_name_and_nothing_else(scene: Scene) -> None:
    rest = '"messages":[{"role":"user","content":"\\u4f60\\u597d"}],"logit_bias":{"50256":-100},"f":1.10,'
    rest += '"big":12345678901234567890'
    body = f'{{"model":"{scene.model}",{rest}}}'

    assert scene.post(content=body.encode()).status_code == 200
    received = scene.upstream.requests[0].body.decode()
    assert json.loads(received)["model"] == "stand-in"
    assert [part for part in rest.split(",") if part not in received] == []


@pytest.mark.parametrize(
    "field",
    [
        {"web_search_options": {"search_context_size": "low"}},
        {"prediction": {"type": "content", "content": "You said"}},
        {"plugins": [{"id": "web"}]},
        {"service_tier": "flex", "store": True, "metadata": {"a": "b"}, "reasoning_effort": "low"},
        {"modalities": ["text"], "audio": None, "n": None, "max_tokens": None, "stop": None, "stream_options": None},
    ],
    ids=lambda field: next(iter(field)),
)
def test_what_the_proxy_need_not_know_goes_on_as_it_is(scene: Scene, field: dict[str, object]) -> None:
    body = scene.chat(**field)

    assert scene.post(body).status_code == 200
    assert scene.upstream.requests[0].json == body | {"model": "stand-in"}


def test_asking_for_usage_keeps_the_other_stream_options(scene: Scene) -> None:
    body = scene.chat(stream=True, stream_options={"include_obfuscation": False})

    assert scene.post(body).status_code == 200
    assert scene.upstream.requests[0].json["stream_options"] == {"include_obfuscation": False, "include_usage": True}


def test_a_native_upstream_is_not_asked_for_usage(new_scene: Callable[..., Scene]) -> None:
    scene = new_scene(stream_usage="native")

    assert scene.post(scene.chat(stream=True)).status_code == 200
    assert "stream_options" not in scene.upstream.requests[0].json


def test_only_the_usage_event_that_we_asked_for_is_taken_out(scene: Scene) -> None:
    kept = [
        ": a comment\n\n",
        "event: ping\ndata: {}\n\n",
        json_event(chunk("hi")),
        json_event(CHUNK | {"choices": [], "x": 1}),
    ]
    usage = json_event(CHUNK | {"choices": [], "usage": Usage(5, 1).chat()})
    scene.upstream.stream([part.encode() for part in (*kept, usage, "data: [DONE]\n\n")])

    answer = scene.post(scene.chat(stream=True))

    assert answer.text == "".join(kept) + "data: [DONE]\n\n"
    assert scene.row()["output_tokens"] == 1


def json_event(value: dict[str, object]) -> str:
    return f"data: {json.dumps(value)}\n\n"


async def test_an_event_reaches_the_client_before_the_upstream_sends_the_next(scene: Scene) -> None:
    gates = {1: Gate(), 2: Gate()}
    scene.upstream.stream([chunk("one"), chunk("two"), "[DONE]"], pauses=gates)
    headers = {"Authorization": f"Bearer {scene.key}"}
    async with (
        httpx.AsyncClient(base_url=scene.proxy.url, headers=headers, trust_env=False, verify=NO_TLS) as client,
        client.stream("POST", "/v1/chat/completions", json=scene.chat(stream=True)) as answer,
    ):
        pieces = answer.aiter_raw()
        assert b'"one"' in await asyncio.wait_for(anext(pieces), 5)
        gates[1].open()
        assert b'"two"' in await asyncio.wait_for(anext(pieces), 5)
        gates[2].open()
        assert b"".join([piece async for piece in pieces]).endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
def test_the_row_is_there_when_the_last_byte_arrives(scene: Scene, stream: bool) -> None:
    for count in range(1, 21):
        assert scene.post(scene.chat(f"call {count}", stream=stream)).status_code == 200
        assert len(scene.rows()) == count


def test_an_answer_compressed_though_nobody_asked_is_metered_and_passed_on_as_it_is(scene: Scene) -> None:
    plain = json.dumps({"choices": [], "usage": Usage(40, 20).chat()}).encode()
    packed = gzip.compress(plain)
    scene.upstream.answer(body=packed, headers={"content-encoding": "gzip"})

    with scene.http.stream("POST", "/v1/chat/completions", json=scene.chat("word " * 40)) as answer:
        assert b"".join(answer.iter_raw()) == packed
    assert answer.headers["content-encoding"] == "gzip"
    assert (scene.row()["input_tokens"], scene.row()["output_tokens"]) == (40, 20)
