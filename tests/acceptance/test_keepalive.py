"""`KEEPALIVE`: while an upstream is silent its client gets comments, between whole events alone; SDKs read past them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest

from tests.harness.answers import Gate, Usage, sse
from tests.harness.honest_anthropic import event
from tests.harness.proxy import Proxy
from tests.harness.scene import Scene
from tests.harness.tls import NO_TLS

COMMENT = b": keep-alive\n\n"
HEAD: dict[str, Any] = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
EVENTS = [
    *(HEAD | {"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]} for word in ("red", " green")),
    HEAD | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    HEAD | {"choices": [], "usage": Usage(input=5, output=2).chat()},
    "[DONE]",
]
WHOLE = b"".join(map(sse, EVENTS))
STRIPPED = b"".join(sse(one) for at, one in enumerate(EVENTS) if at != 3)


@pytest.fixture(scope="module")
def proxy(proxies: Callable[..., Proxy]) -> Proxy:
    return proxies(KEEPALIVE="0.1")


@contextmanager
def raw(scene: Scene, **fields: Any) -> Iterator[Iterator[bytes]]:
    with scene.http.stream("POST", "/v1/chat/completions", json=scene.chat(stream=True, **fields)) as answer:
        yield answer.iter_raw()


def until(pieces: Iterator[bytes], enough: Callable[[bytes], bool]) -> bytes:
    got = b""
    while not enough(got):
        got += next(pieces)
    return got


def wait_for_some_comments(scene: Scene) -> None:
    """Those of another stream: as long as it takes for them to be due."""
    gate = Gate()
    scene.upstream.stream(EVENTS, pauses={1: gate})
    with raw(scene) as pieces:
        until(pieces, lambda got: got.count(COMMENT) == 3)
        gate.open()
        until(pieces, lambda got: got.endswith(sse("[DONE]")))


def opening_at_a_comment(stream: Any, gate: Gate) -> Any:
    """An SDK's own stream of bytes, which lets the upstream go on once a comment has come by."""

    class Watched(type(stream)):  # type: ignore[misc]
        def __init__(self) -> None:
            pass

        def __iter__(self) -> Iterator[bytes]:
            for piece in stream:
                if COMMENT in piece:
                    gate.open()
                yield piece

        def close(self) -> None:
            stream.close()

    return Watched()


def watched(library: Any, gate: Gate) -> Any:
    """A client of httpx, or of its successor."""

    def watch(answer: Any) -> None:
        answer.stream = opening_at_a_comment(answer.stream, gate)

    return library.Client(trust_env=False, verify=NO_TLS if library is httpx else False, event_hooks={"response": [watch]})


def test_a_silence_is_filled_with_comments_between_events(scene: Scene) -> None:
    gate = Gate()
    scene.upstream.stream(EVENTS, pauses={1: gate})

    with raw(scene) as pieces:
        got = until(pieces, lambda got: got.count(COMMENT) == 3)
        assert got == sse(EVENTS[0]) + COMMENT * 3
        gate.open()
        got += b"".join(pieces)

    assert got.replace(COMMENT, b"") == STRIPPED
    assert scene.row()["usage_source"] == "provider"


def test_before_the_first_event_too(scene: Scene) -> None:
    gate = Gate()
    scene.upstream.stream([b"", *EVENTS], pauses={1: gate})

    with raw(scene) as pieces:
        assert next(pieces) == COMMENT
        gate.open()
        assert b"".join(pieces).replace(COMMENT, b"") == STRIPPED


def test_an_unfinished_event_has_not_left_so_that_a_comment_stands_before_it(scene: Scene) -> None:
    gate = Gate()
    scene.upstream.stream([WHOLE], split=[len(sse(EVENTS[0])) + 20], pauses={1: gate})

    with raw(scene) as pieces:
        assert until(pieces, lambda got: COMMENT in got) == sse(EVENTS[0]) + COMMENT
        gate.open()
        assert b"".join(pieces).replace(COMMENT, b"") == STRIPPED.removeprefix(sse(EVENTS[0]))


def test_within_an_event_that_passes_in_parts_there_is_none(scene: Scene) -> None:
    large = sse(HEAD | {"choices": [{"index": 0, "delta": {"content": "x" * 600_000}}]})
    gate, rest = Gate(), Gate()
    scene.upstream.stream([large + WHOLE], split=[400_000, len(large)], pauses={1: gate, 2: rest})

    with raw(scene) as pieces:
        got = until(pieces, lambda got: len(got) > 300_000)
        wait_for_some_comments(scene)
        gate.open()
        got += until(pieces, lambda got: COMMENT in got)
        rest.open()
        got += b"".join(pieces)

    assert got.replace(COMMENT, b"") == large + STRIPPED
    assert got.index(COMMENT) == len(large)


def test_a_silence_after_the_terminal_event_stays_one(scene: Scene) -> None:
    gate = Gate()
    scene.upstream.stream([*EVENTS, b": last words\n\n"], pauses={5: gate})

    with raw(scene) as pieces:
        got = until(pieces, lambda got: got.endswith(sse("[DONE]")))
        wait_for_some_comments(scene)
        gate.open()
        assert got + b"".join(pieces) == STRIPPED + b": last words\n\n"


def test_an_event_whose_end_is_held_back_has_none_in_it(scene: Scene) -> None:
    """Gemini's closing chunk, after which more may come."""
    gate = Gate()
    closing = {"candidates": [{"content": {"parts": [{"text": "hi"}]}, "finishReason": "STOP"}], "usageMetadata": {"totalTokenCount": 3}}
    scene.upstream.stream([closing, closing], pauses={1: gate})
    asked = {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}

    path = f"/v1beta/models/{scene.model}:streamGenerateContent?alt=sse"
    with scene.http.stream("POST", path, json=asked) as answer:
        pieces = answer.iter_raw()
        got = until(pieces, lambda got: b"STOP" in got)
        wait_for_some_comments(scene)
        gate.open()
        assert got + b"".join(pieces) == sse(closing) * 2


def test_nothing_is_said_where_the_upstream_is_not_silent(scene: Scene) -> None:
    scene.upstream.stream([*EVENTS[:1] * 40, *EVENTS[2:]], gap=0.01)

    with raw(scene) as pieces:
        assert COMMENT not in b"".join(pieces)


def test_an_answer_that_is_no_stream_has_none(scene: Scene) -> None:
    gate = Gate()
    parts: list[Any] = [b'{"choices":[],', b'"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}']
    scene.upstream.stream(parts, content_type="application/json", pauses={1: gate})

    with scene.http.stream("POST", "/v1/chat/completions", json=scene.chat()) as answer:
        wait_for_some_comments(scene)
        gate.open()
        assert answer.read() == b"".join(parts)


def test_the_openai_client_reads_past_them(scene: Scene) -> None:
    gate = Gate()
    scene.upstream.stream(EVENTS, pauses={1: gate})

    with watched(httpx, gate) as plain:
        client = openai.OpenAI(api_key=scene.key, base_url=f"{scene.proxy.url}/v1", http_client=plain, max_retries=0)
        stream = client.chat.completions.create(**scene.chat(), stream=True)
        texts = [chunk.choices[0].delta.content or "" for chunk in stream]

    assert texts == ["red", " green", ""]


def test_the_anthropic_client_reads_past_them(scene: Scene) -> None:
    gate = Gate()
    message = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None, "stop_sequence": None}
    scene.upstream.stream(
        [
            event("message_start", message=message | {"usage": {"input_tokens": 3, "output_tokens": 1}}),
            event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
            event("content_block_delta", index=0, delta={"type": "text_delta", "text": "hi"}),
            event("content_block_stop", index=0),
            event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage={"output_tokens": 1}),
            event("message_stop"),
        ],
        pauses={2: gate},
    )
    with watched(httpx2, gate) as plain:
        client = anthropic.Anthropic(api_key=scene.key, base_url=scene.proxy.url, http_client=plain, max_retries=0)
        asked: Any = {"model": scene.model, "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}
        with client.messages.stream(**asked) as stream:
            assert stream.get_final_text() == "hi"
