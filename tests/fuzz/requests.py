"""Requests as strategies: calls that fit, with something about them that doesn't, cut into pieces where the network might."""

import json
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from tests.fuzz.wire import chunked

SAID: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
CALLS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/v1/chat/completions", SAID),
    ("/v1/chat/completions", SAID | {"stream": True}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": [IMAGE]}]}),
    ("/openai/deployments/{model}/chat/completions", SAID),
    ("/v1/completions", {"prompt": "hi"}),
    ("/v1/embeddings", {"input": ["hi"]}),
    ("/v1/responses", {"input": "hi"}),
    ("/v1/responses", {"input": "hi", "stream": True}),
    ("/v1/messages", SAID | {"max_tokens": 9}),
    ("/v1/messages/count_tokens", SAID),
    ("/v1/moderations", {"input": "hi"}),
    ("/v1/rerank", {"query": "a", "documents": ["b"]}),
    ("/v1/images/generations", {"prompt": "hi"}),
    ("/v1/audio/speech", {"input": "hi", "voice": "a"}),
    ("/v1/estimate", SAID),
    ("/v1beta/models/{model}:generateContent", {"contents": [{"parts": [{"text": "hi"}]}]}),
    ("/v1beta/models/{model}:streamGenerateContent?alt=sse", {"contents": [{"parts": [{"text": "hi"}]}]}),
)
PATHS = (
    "/v1/audio/transcriptions", "/v1/responses/resp_1", "/v1/conversations", "/v1/models", "/v1/key", "/v1/redeem", "/v1/statement",
    "/dashboard/billing/usage", "/v1/nothing", "/", "*", "//v1/models", "/v1/../v1/models", "/%00", "/v1/models/%ff", "/logs", "/docs",
)  # fmt: skip
METHODS = ("GET", "DELETE", "PUT", "HEAD", "OPTIONS", "TRACE")
LINES = (
    "Content-Length: 5", "Content-Length: 0", "Content-Length: 99999999999", "Content-Length: -1", "Transfer-Encoding: chunked",
    "Transfer-Encoding: gzip", "Expect: 100-continue", "Expect: x", "Connection: close", "Connection: keep-alive, TE", "TE: trailers",
    "Upgrade: websocket", "Upgrade: h2c", "Connection: Upgrade", "Content-Encoding: gzip", "Content-Encoding: br", "Content-Encoding: zstd",
    "Content-Type: multipart/form-data; boundary=x", "Content-Type: multipart/form-data", "Content-Type: text/plain", "Content-Type: \xff",
    "Accept-Encoding: gzip", "X-Include-Cost: 1", "anthropic-version: 2023-06-01", "anthropic-beta: x,y", "x-goog-api-key: x",
    "x-api-key: ", "Authorization: Basic eDp5", "Authorization: Bearer", "Authorization: Bearer \xff\xfe", "Cookie: a=b",
    "X-Forwarded-For: 1.2.3.4, unknown", "Forwarded: for=\"_x\"", "Host: b", "Origin: null",
    "traceparent: 00-x", "Idempotency-Key: \xe4", "Range: bytes=0-1", "X-Model: \xff",
    "User-Agent: \xe2\x82\xac", "Tags: a", "X-Title: ", "If-Match: *",
)  # fmt: skip
NAME = st.text(st.characters(codec="latin-1", categories=("L", "N", "P", "S", "Zs", "Cc")), max_size=20)
VALUE = st.text(st.characters(codec="latin-1"), max_size=40)
LEAF = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=20), st.sampled_from(["stop", "\0", "\ud800"])
)
JSON = st.recursive(
    LEAF, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4), max_leaves=8
)
FIELDS = (
    "model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n", "temperature", "tools", "input", "store",
    "prompt", "contents", "generationConfig", "metadata", "user", "stop", "background", "previous_response_id", "modalities", "size",
    "service_tier", "best_of", "instructions", "system", "thinking", "reasoning", "documents", "query", "voice", "response_format",
)  # fmt: skip
RAW = (
    b"",
    b"{",
    b"[" * 100_000,
    b'{"a":' * 20_000,
    b"null",
    b"[]",
    b"\xff\xfe",
    b"\xef\xbb\xbf{}",
    b'{"model": "\\ud800"}',
    b'{"n": 1e999}',
)
MULTIPART = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nMODEL\r\n--x\r\nContent-Disposition: form-data; name="file"'


@st.composite
def bodies(draw: Callable[..., Any], model: str, usual: dict[str, Any]) -> bytes:
    kind = draw(st.integers(0, 12))
    if kind == 0:
        return draw(st.binary(max_size=200))
    if kind == 1:
        return draw(st.sampled_from(RAW))
    if kind == 2:
        whole = MULTIPART.replace(b"MODEL", model.encode()) + b'; filename="a.wav"\r\n\r\nRIFF\r\n--x--\r\n'
        return whole[: draw(st.integers(0, len(whole)))] if draw(st.booleans()) else whole
    fields: dict[str, Any] = {"model": model, **usual}
    if kind < 8:
        for name in draw(st.lists(st.sampled_from(FIELDS), max_size=3)):
            fields[name] = draw(JSON)
    body = json.dumps(fields, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    if kind == 3 and body:
        at = draw(st.integers(0, len(body) - 1))
        body = body[:at] + draw(st.binary(max_size=3)) + body[at + draw(st.integers(0, 3)) :]
    return body


@st.composite
def framed(draw: Callable[..., Any], body: bytes) -> tuple[list[str], bytes]:
    """The lines that say how long a body is, and its bytes: most of the time they are right."""
    kind = draw(st.integers(0, 7))
    if kind < 4:
        return [f"Content-Length: {len(body)}"], body
    cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=4)))
    coded = chunked([body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)])
    if kind == 7:
        at = draw(st.integers(0, len(coded)))
        coded = coded[:at] + draw(st.sampled_from([b"", b"\r\n", b"\n", b"0", b";x=y", b"\xff", b"A: b\r\n"])) + coded[at:]
    if kind == 6:
        coded = coded[:-2] + b"X-Title: t\r\nContent-Length: 5\r\n\r\n"
    return ["Transfer-Encoding: chunked"], coded


@st.composite
def requests(draw: Callable[..., Any], *, key: str, model: str) -> list[bytes]:
    """In pieces. In the end they are no more than bytes."""
    path, usual = draw(st.sampled_from(CALLS))
    method = "POST"
    if draw(st.integers(0, 4)) == 0:
        path, method = draw(st.sampled_from(PATHS)), draw(st.sampled_from(METHODS))
    path = path.format(model=model)
    if draw(st.integers(0, 9)) == 0:
        path += draw(st.sampled_from(["?", "?key=x", "?alt=json&beta=true", "?month=2030-99", "?%ff=%00", "#x", "?a=" + "b" * 3000]))
    lines, content = draw(framed(draw(bodies(model, usual))))
    lines = ["Host: proxy", f"Authorization: Bearer {key}", "Content-Type: application/json", *lines]
    for line in draw(st.lists(st.sampled_from(LINES), max_size=draw(st.integers(0, 2)))):
        lines.insert(draw(st.integers(0, len(lines))), line)
    if draw(st.integers(0, 5)) == 0:
        lines.insert(draw(st.integers(0, len(lines))), f"{draw(NAME)}: {draw(VALUE)}")
    first = f"{method} {path} HTTP/1.1"
    whole = "\r\n".join([first, *lines, "", ""]).encode("latin-1", "replace") + content
    if draw(st.integers(0, 9)) == 0:
        at = draw(st.integers(0, len(whole)))
        whole = whole[:at] + draw(st.binary(max_size=4)) + whole[at:]
    cuts = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=3)))
    return [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
