"""Each event reaches the client whole, alone, and before the upstream sends the next, in every protocol; and a long stream
takes no more memory than a short one."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import psutil
import pytest

from tests.harness import honest
from tests.harness.answers import Gate, sse
from tests.harness.books import charge
from tests.harness.scene import Scene
from tests.harness.tls import NO_TLS

TOLD = [{"role": "user", "content": "one two three four"}]
SPOKEN = {"contents": [{"parts": [{"text": "one two three four"}]}]}
MEGABYTE = 1_000_000
MOST_GROWTH = 24 * MEGABYTE

Call = tuple[str, dict[str, Any]]


@pytest.fixture(params=["chat", "responses", "messages", "gemini", "gemini array"])
def call(request: pytest.FixtureRequest, new_scene: Callable[..., Scene]) -> tuple[Scene, str, dict[str, Any], list[bytes]]:
    """A streamed call of each protocol: its path and body, and what the upstream answers, an event a piece."""
    is_gemini = request.param.startswith("gemini")
    scene = new_scene(base_path="/v1beta" if is_gemini else "/v1")
    calls: dict[str, Call] = {
        "chat": ("/v1/chat/completions", {"messages": TOLD, "stream_options": {"include_usage": True}}),
        "responses": ("/v1/responses", {"input": TOLD}),
        "messages": ("/v1/messages", {"messages": TOLD, "max_tokens": 100}),
        "gemini": (f"/v1beta/models/{scene.model}:streamGenerateContent?alt=sse", SPOKEN),
        "gemini array": (f"/v1beta/models/{scene.model}:streamGenerateContent", SPOKEN),
    }
    path, body = calls[request.param]
    body = body if is_gemini else body | {"model": scene.model, "stream": True}
    query = {"alt": "sse"} if request.param == "gemini" else {}
    return scene, path, body, honest.reply(path.partition("?")[0], json.dumps(body).encode(), query).pieces


async def read(pieces: AsyncIterator[bytes], size: int) -> bytes:
    got = b""
    while len(got) < size:
        got += await asyncio.wait_for(anext(pieces), 5)
    return got


async def test_an_event_arrives_whole_and_alone_before_the_next_is_sent(call: tuple[Scene, str, dict[str, Any], list[bytes]]) -> None:
    scene, path, body, events = call
    gates = {at: Gate() for at in range(1, len(events))}
    content_type = "application/json" if events[0].startswith(b"[") else "text/event-stream"
    scene.upstream.stream([*events], pauses=gates, content_type=content_type)
    headers = {"Authorization": f"Bearer {scene.key}"}
    async with (
        httpx.AsyncClient(base_url=scene.proxy.url, headers=headers, trust_env=False, verify=NO_TLS) as client,
        client.stream("POST", path, json=body) as answer,
    ):
        pieces = answer.aiter_raw()
        for at, event in enumerate(events[:-1]):
            if at:
                gates[at].open()
            assert await read(pieces, len(event)) == event
        gates[len(events) - 1].open()
        assert b"".join([piece async for piece in pieces]) == events[-1]

    assert len(events) > 5
    assert scene.row()["usage_source"] == "provider"


def resident(scene: Scene) -> int:
    """Bytes of memory of the proxy, its children's included."""
    proxy = psutil.Process(scene.proxy.process.pid)
    return sum(process.memory_info().rss for process in (proxy, *proxy.children(recursive=True)))


def streamed(size: int) -> Iterator[bytes]:
    text = "some words of a long answer " * 140
    event = sse({"id": "c", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]})
    yield from [event] * (size // len(event))
    yield sse({"id": "c", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 12}})
    yield sse("[DONE]")


def as_array(size: int) -> Iterator[bytes]:
    told = {"candidates": [{"content": {"parts": [{"text": "some words of a long answer " * 140}], "role": "model"}, "index": 0}]}
    chunk = json.dumps(told).encode()
    yield b"[" + chunk
    yield from [b",\r\n" + chunk] * (size // len(chunk))
    yield (
        b",\r\n"
        + json.dumps(told | {"usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 9, "totalTokenCount": 12}}).encode()
        + b"]"
    )


@pytest.mark.parametrize("form", [streamed, as_array])
def test_a_stream_of_50_megabytes_takes_no_more_memory_than_one_of_one(
    new_scene: Callable[..., Scene], form: Callable[[int], Iterator[bytes]]
) -> None:
    is_array = form is as_array
    scene = new_scene(base_path="/v1beta" if is_array else "/v1", credit="10000")
    path = f"/v1beta/models/{scene.model}:streamGenerateContent" if is_array else "/v1/chat/completions"
    body = SPOKEN if is_array else scene.chat(stream=True, stream_options={"include_usage": True})
    highest = []
    for size in (10 * MEGABYTE, 50 * MEGABYTE):  # the first loads what is loaded once, such as the tokenizer
        scene.upstream.stream([*form(size)], content_type="application/json" if is_array else "text/event-stream")
        samples, received = [0], 0
        with scene.http.stream("POST", path, json=body) as answer:
            for number, piece in enumerate(answer.iter_raw(262_144)):
                received += len(piece)
                if number % 8 == 0:
                    samples.append(resident(scene))
        assert received >= size - 10_000
        highest.append(max(samples))

    assert highest[1] - highest[0] < MOST_GROWTH
    row = scene.rows()[-1]
    assert (row["input_tokens"], row["output_tokens"], row["charge"]) == (3, 9, charge(scene.rates, row))
