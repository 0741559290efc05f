"""The load generator's side of the wire: one keep-alive connection, one call at a time, as cheap as Python allows.

A call always ends in exactly one `Outcome`, handed to `finished`: an answer read to its end, or the reason why there is
none (`reset`, `malformed`, or what the answer lacks). The connection is then reused, a broken one reported to `lost`.
"""

import asyncio
import itertools
import re
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import httptools
import msgspec

from bench.wire import MODEL, OUTPUT_LIMIT, PACED, SENT_AT, Counts, Usage, counts_of, number_in

_PROMPT = "Summarise in one line what a metering proxy must never do to the money of its users. " * 8
_OK = 200
_DONE = b"data: [DONE]\n\n"
_USAGE = b'"usage":{'
_STAMP = re.compile(rb'"%b":\s*(\d+)' % SENT_AT)


class Request(NamedTuple):
    """A request ready to be written, and what its answer must look like."""

    payload: bytes
    stream: bool
    include_usage: bool


class Outcome(NamedTuple):
    """How one call ended. Times are in seconds, of `time.perf_counter`; `failure` is empty for a call that is right. `on_the_way`:
    seconds that each stamped event took."""

    request_id: str
    status: int
    failure: str
    counts: Counts | None
    due: float
    first: float
    end: float
    on_the_way: Sequence[float] = ()


class _Answer(msgspec.Struct):
    usage: Usage


_read_answer = msgspec.json.Decoder(_Answer).decode


def chat_request(
    host: str, path: str, key: str, *, stream: bool, include_usage: bool, paced: bool = False, headers: Sequence[str] = ()
) -> Request:
    """`headers`: more of them, as `name: value`."""
    body: dict[str, object] = {
        "model": MODEL,
        "messages": [{"role": "system", "content": "You are brief."}, {"role": "user", "content": _PROMPT}],
        "temperature": 0.2,
        "max_tokens": OUTPUT_LIMIT,
    }
    if stream:
        body["stream"] = True
    if include_usage:
        body["stream_options"] = {"include_usage": True}
    if paced:
        body["user"] = PACED
    encoded = msgspec.json.encode(body)
    more = "".join(f"{header}\r\n" for header in headers)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
        f"Accept: */*\r\nUser-Agent: bench\r\n{more}Content-Length: {len(encoded)}\r\n\r\n"
    )
    return Request(head.encode() + encoded, stream, include_usage)


class Connection(asyncio.Protocol):
    """`requests` are sent in turn, call after call, over the connections that replace this one too."""

    def __init__(
        self,
        requests: "itertools.cycle[Request]",
        finished: Callable[["Connection", Outcome], None],
        lost: Callable[["Connection"], None],
        judges: bool = True,
    ) -> None:
        """`judges`: an answer must be the upstream's own, to its counts; else it must only be whole."""
        self.requests = requests
        self._finished = finished
        self._lost = lost
        self._judges = judges
        self._on_the_way: list[float] = []
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._request: Request | None = None
        self._request_id = ""
        self._parts: list[bytes] = []
        self._due = self._first = 0.0

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def send(self, due: float) -> None:
        """Begins the next call. `due` is when it should have begun: latency counts from there."""
        assert self._transport is not None
        assert self._request is None
        self._request = next(self.requests)
        self._due, self._first = due, 0.0
        self._transport.write(self._request.payload)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._end(0, "malformed", None)
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._request is not None:
            self._end(0, "reset", None)
        self._lost(self)

    def on_message_begin(self) -> None:
        self._request_id = ""
        self._parts = []
        self._on_the_way = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"x-request-id":
            self._request_id = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        if not self._first:
            self._first = time.perf_counter()
        self._parts.append(body)
        if body.find(SENT_AT) >= 0:
            now = time.monotonic_ns()
            self._on_the_way += [(now - int(sent_at)) / 1e9 for sent_at in _STAMP.findall(body)]

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if not self._parser.should_keep_alive():
            self.close()
        if self._request is None:
            self.close()
        elif status != _OK:
            self._end(status, f"status {status}", None)
        else:
            counts, failure = (_judge if self._judges else _look_at)(self._request, b"".join(self._parts))
            self._end(status, failure, counts)

    def _end(self, status: int, failure: str, counts: Counts | None) -> None:
        if self._request is None:
            return
        self._request = None
        end = time.perf_counter()
        self._finished(self, Outcome(self._request_id, status, failure, counts, self._due, self._first or end, end, self._on_the_way))


def _look_at(request: Request, body: bytes) -> tuple[None, str]:
    """For those who write an answer anew."""
    return None, "stream without its end" if request.stream and not body.rstrip().endswith(_DONE.strip()) else ""


def _judge(request: Request, body: bytes) -> tuple[Counts | None, str]:
    """The counts of an answer, and what is wrong with it, empty if nothing is."""
    if request.stream and not body.endswith(_DONE):
        return None, "stream without its end"
    try:
        must_be = counts_of(number_in(body))
        counts = _usage_in(body, request.stream)
    except (ValueError, msgspec.DecodeError):
        return None, "answer that can't be read"
    if counts is None:
        return must_be, "stream without the usage asked for" if request.include_usage or not request.stream else ""
    if request.stream and not request.include_usage:
        return must_be, "stream with a usage event that was not asked for"
    return counts, "" if counts == must_be else "usage altered on its way"


def _usage_in(body: bytes, stream: bool) -> Counts | None:
    if not stream:
        return _read_answer(body).usage.counts()
    found = body.rfind(_USAGE)
    if found < 0:
        return None
    start = body.rindex(b"data: ", 0, found) + len(b"data: ")
    return _read_answer(body[start : body.index(b"\n", found)]).usage.counts()
