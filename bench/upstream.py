"""A stand-in upstream: as little work a call as a server can do, so that the bench measures the proxy.

    python -m bench.upstream --port 0 --events 100 --pace 0.01

Prints `{"port": N}` when it listens, then serves until SIGTERM or SIGINT. `POST …/chat/completions` answers unary or,
with `"stream": true`, as server-sent events, each in a chunk and a write of its own, as fast as they can be written. Where
`user` is `paced` there are `--pace` seconds between them, and they say when they were written. `GET /totals` tells what was
answered. A request that can't be read gets 400 or loses its connection; a client that leaves ends its own stream,
uncounted.
"""

import argparse
import asyncio
import itertools
import signal
import time
from collections.abc import Iterator
from typing import cast

import httptools
import msgspec
import uvloop

from bench.wire import MODEL, PACED, SENT_AT, Counts, Totals, Usage, counts_of

_TEXT = "The quick brown fox jumps over the lazy dog, and the meter counts every word of it. " * 5


class _StreamOptions(msgspec.Struct):
    include_usage: bool = False


class _Request(msgspec.Struct):
    stream: bool = False
    user: str = ""
    stream_options: _StreamOptions | None = None


_read_request = msgspec.json.Decoder(_Request).decode


def _unary_body(number: int, counts: Counts) -> bytes:
    return (
        b'{"id":"chatcmpl-%012d","object":"chat.completion","created":1760000000,"model":"%b","choices":[{"index":0,'
        b'"message":{"role":"assistant","content":"%b","refusal":null},"logprobs":null,"finish_reason":"stop"}],'
        b'"usage":%b,"service_tier":"default","system_fingerprint":"fp_bench"}'
    ) % (number, MODEL.encode(), _TEXT.encode(), msgspec.json.encode(Usage.of(counts)))


def _event(number: int, rest: bytes) -> bytes:
    data = (
        b'data: {"id":"chatcmpl-%012d","object":"chat.completion.chunk","created":1760000000,"model":"%b",'
        b'"system_fingerprint":"fp_bench",%b}\n\n'
    ) % (number, MODEL.encode(), rest)
    return _chunk(data)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


_WORD = b'"choices":[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}],"usage":null'
_LAST_WORD = b'"choices":[{"index":0,"delta":{"content":" end."},"logprobs":null,"finish_reason":"stop"}],"usage":null'
_DONE = _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


def _stamped(number: int, events: int) -> Iterator[bytes]:
    return (_event(number, b'"%b":%d,%b' % (SENT_AT, time.monotonic_ns(), _WORD)) for _ in range(events))


def _stream_frames(number: int, counts: Counts, events: int, include_usage: bool, *, stamped: bool) -> Iterator[bytes]:
    """What each write carries. Content events are one `bytes` object repeated, so that a stream is cheap to make; `stamped`: made
    when they are written."""
    usage = b'"choices":[],"usage":%b' % msgspec.json.encode(Usage.of(counts))
    return itertools.chain(
        _stamped(number, events - 1) if stamped else itertools.repeat(_event(number, _WORD), events - 1),
        (_event(number, _LAST_WORD),),
        (_event(number, usage),) if include_usage else (),
        (_DONE,),
    )


class Upstream:
    """What all connections share: how to stream, the next call's number, what was answered so far."""

    def __init__(self, *, events: int, pace: float) -> None:
        self.events = events
        self.pace = pace
        self.numbers = itertools.count(1)
        self.totals = Totals()

    def answered(self, counts: Counts) -> None:
        self.totals.calls += 1
        self.totals.input_tokens += counts.input
        self.totals.output_tokens += counts.output


class Connection(asyncio.Protocol):
    """One keep-alive connection; a request is answered before the next is read, as HTTP/1.1 clients do it."""

    def __init__(self, upstream: Upstream, loop: asyncio.AbstractEventLoop) -> None:
        self._upstream = upstream
        self._loop = loop
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._url = b""
        self._body = b""
        self._is_streaming = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._end_stream()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._close()

    def on_message_begin(self) -> None:
        self._url = self._body = b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        path = self._url.partition(b"?")[0]
        if self._parser.get_method() == b"POST" and path.endswith(b"/chat/completions"):
            self._complete_chat()
        elif path == b"/totals":
            self._send(b"200 OK", msgspec.json.encode(self._upstream.totals))
        else:
            self._send(b"404 Not Found", b'{"error":{"message":"the stand-in does not know this path"}}')

    def _complete_chat(self) -> None:
        try:
            request = _read_request(self._body)
        except msgspec.DecodeError:
            self._send(b"400 Bad Request", b'{"error":{"message":"not a chat completion"}}')
            return
        number = next(self._upstream.numbers)
        counts = counts_of(number)
        if request.stream:
            include_usage = request.stream_options is not None and request.stream_options.include_usage
            self._begin_stream(number, counts, include_usage, is_paced=request.user == PACED)
        else:
            self._send(b"200 OK", _unary_body(number, counts), number)
            self._upstream.answered(counts)

    def _send(self, status: bytes, body: bytes, number: int = 0) -> None:
        self._write(
            b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
            b"x-request-id: upstream-%d\r\n\r\n%b" % (status, len(body), number, body)
        )
        self._end_request()

    def _begin_stream(self, number: int, counts: Counts, include_usage: bool, *, is_paced: bool) -> None:
        self._is_streaming = True
        self._upstream.totals.open += 1
        self._write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
            b"Transfer-Encoding: chunked\r\nx-request-id: upstream-%d\r\n\r\n" % number
        )
        frames = _stream_frames(number, counts, self._upstream.events, include_usage, stamped=is_paced)
        self._next_frame(frames, counts, self._upstream.pace if is_paced else 0.0)

    def _next_frame(self, frames: Iterator[bytes], counts: Counts, pace: float) -> None:
        """One frame per turn of the loop: uvloop joins what one turn writes."""
        if self._transport is None:
            return
        frame = next(frames)
        self._write(frame)
        if frame is _DONE:
            self._end_stream()
            self._upstream.answered(counts)
            self._end_request()
        elif pace:
            self._loop.call_later(pace, self._next_frame, frames, counts, pace)
        else:
            self._loop.call_soon(self._next_frame, frames, counts, pace)

    def _end_stream(self) -> None:
        self._upstream.totals.open -= self._is_streaming
        self._is_streaming = False

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _end_request(self) -> None:
        if not self._parser.should_keep_alive():
            self._close()

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()


async def serve(*, port: int, events: int, pace: float) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for ending in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(ending, stop.set)
    upstream = Upstream(events=events, pace=pace)
    server = await loop.create_server(lambda: Connection(upstream, loop), "127.0.0.1", port, backlog=1024)
    print(f'{{"port": {server.sockets[0].getsockname()[1]}}}', flush=True)
    await stop.wait()
    server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="A stand-in upstream for benchmarks.")
    parser.add_argument("--port", type=int, default=0, help="0: any free port, printed at start")
    parser.add_argument("--events", type=int, default=100, help="content events of a stream")
    parser.add_argument("--pace", type=float, default=0.01, help="seconds between the events of paced streams")
    options = parser.parse_args()
    if options.events < 1:
        parser.error("--events must be at least 1")
    uvloop.run(serve(port=options.port, events=options.events, pace=options.pace))


if __name__ == "__main__":
    main()
