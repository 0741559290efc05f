"""One connection: a request goes out, what comes is fed to the parser; then it is free for the next, or closed.

It is closed after anything but a request sent whole and an answer that ended where its own framing says (RFC 9112, 6.3), with nothing
after it. llhttp is as lenient as aiohttp has it for answers: control characters in a header's value, lines that end with a line
feed alone, spaces after a chunk's size. It refuses a length that stands there twice; a length beside a coding, and
codings other than `chunked`, are refused here.
"""

import asyncio
from typing import Protocol, cast

import httptools

from app.gateway.forwarding.http1.exchange import FINAL, MOST_UNREAD, Exchange, closed_here
from app.gateway.forwarding.http1.faults import Cut, HttpFault, NotHttp, Stalled, TooLong
from app.gateway.forwarding.http1.origin import Origin

LARGEST_HEAD = 65_536
"""Bytes of a head's names and values; and of what may come without a whole one of them, or without any of a body, beyond the piece
that it came in."""
MOST_HEADERS = 256
SWITCHING = 101


class Pool(Protocol):
    """Who keeps connections."""

    def opened(self, connection: "Connection") -> None: ...
    def freed(self, connection: "Connection") -> None: ...
    def lost(self, connection: "Connection") -> None: ...


class Connection(asyncio.Protocol):
    """`idle_timeout`: seconds in which something must come while an answer is awaited. `free_since`: on the loop's clock."""

    __slots__ = (
        "_bare", "_ends_with_connection", "_exchange", "_has_answered", "_head_size", "_headers", "_heard_at", "_idle_timeout",
        "_in_head", "_is_paused", "_is_sending", "_loop", "_may_be_kept", "_parser", "_pool", "_timer", "_transport", "free_since",
        "is_full", "origin", "was_used",
    )  # fmt: skip

    def __init__(self, origin: Origin, pool: Pool, *, idle_timeout: float) -> None:
        self.origin = origin
        self.free_since = 0.0
        self.is_full = False
        self.was_used = False
        self._pool = pool
        self._idle_timeout = idle_timeout
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._exchange: Exchange | None = None
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._heard_at = 0.0
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_size = 0
        self._in_head = False
        self._has_answered = False  # the last byte of the answer has come
        self._may_be_kept = False
        self._ends_with_connection = False
        self._is_sending = False
        self._is_paused = False
        self._bare = 0  # bytes that have come since the request, or since the last of the body

    # for who sends

    def begin(self, request: bytes, *, deadline: float, is_whole: bool) -> Exchange:
        """`is_whole`: the request is; else its body follows. Raises `Cut` where the connection is no more."""
        if self._transport is None:
            raise Cut("the connection was closed as soon as it was made")
        self._heard_at = self._loop.time()
        self._has_answered = self._ends_with_connection = False
        self._is_sending = not is_whole
        self._in_head = True
        self._bare = 0
        self._exchange = exchange = Exchange(self, deadline)
        self._transport.write(request)
        if self._timer is None:
            self._timer = self._loop.call_at(min(self._heard_at + self._idle_timeout, deadline), self._look)
        return exchange

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        """At once; what is under way ends with `Cut`."""
        self._end(closed_here())

    # for the exchange

    def write(self, data: bytes) -> None:
        assert self._transport is not None
        self._heard_at = self._loop.time()
        self._transport.write(data)

    def sent_whole(self) -> None:
        self._is_sending = False

    def resume(self) -> None:
        if self._is_paused and self._transport is not None:
            self._is_paused = False
            self._heard_at = self._loop.time()
            self._transport.resume_reading()

    def abandon(self) -> None:
        self._end(closed_here())

    # what the loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are none by their class
        self._pool.opened(self)

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:  # nobody has asked
            self._end(None)
            return
        self._heard_at = self._loop.time()
        self._bare += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._end(None if self._has_answered else NotHttp("no HTTP/1.1 that can be read in one way"))
            return
        if self._has_answered:
            self._free()
        elif self._bare > LARGEST_HEAD:
            self._end(NotHttp("a head that is too large"))
        else:
            if exchange.unread > MOST_UNREAD and self._transport is not None:
                self._is_paused = True
                self._transport.pause_reading()
            exchange.wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        is_end = exc is None and self._ends_with_connection
        self._end(None if is_end else Cut(f"the connection was lost ({type(exc).__name__})" if exc else "the connection was closed"))
        self._pool.lost(self)

    def pause_writing(self) -> None:
        self.is_full = True

    def resume_writing(self) -> None:
        self.is_full = False
        self._heard_at = self._loop.time()
        if self._exchange is not None:
            self._exchange.wake()

    # what the parser tells; what is raised here comes out of it as an error of its own

    def on_message_begin(self) -> None:
        if self._has_answered:
            raise NotHttp("more than was asked for")
        self._headers = []
        self._head_size = 0
        self._in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # else it is a trailer, which no caller has asked for
            self._head_size += len(name) + len(value)
            if self._head_size > LARGEST_HEAD:
                raise NotHttp("a head that is too large")
            self._headers.append((name.rstrip(b" \t"), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < FINAL and status != SWITCHING:
            return
        if len(self._headers) > MOST_HEADERS:
            raise NotHttp("too many headers")
        self._in_head = False
        assert self._exchange is not None
        self._ends_with_connection = _ends_with_connection(self._headers)
        self._exchange.headers = tuple(self._headers)
        self._exchange.status = status

    def on_body(self, body: bytes) -> None:
        self._bare = 0
        if self._exchange is not None:
            self._exchange.take(body)

    def on_message_complete(self) -> None:
        self._has_answered = not self._in_head  # else it was a word before the answer, such as 100 or 103
        self._may_be_kept = self._parser.should_keep_alive()  # it knows this only now

    # how an exchange ends

    def _free(self) -> None:
        """The answer is whole."""
        if self._is_sending or not self._may_be_kept or not self.is_open:
            self._end(None)
            return
        exchange, self._exchange = self._exchange, None
        self.resume()
        self.was_used = True
        self.free_since = self._heard_at
        self._pool.freed(self)
        assert exchange is not None
        exchange.end(None)

    def _end(self, fault: HttpFault | None) -> None:
        """And the connection with it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.end(fault)

    def _look(self) -> None:
        """One timer a connection, which looks whether anything is due: a piece of an answer costs no timer of its own (1.6 us)."""
        self._timer = None
        exchange, now = self._exchange, self._loop.time()
        if exchange is None:
            return
        if self._is_paused:  # it isn't the server that is slow
            self._heard_at = now
        due = min(self._heard_at + self._idle_timeout, exchange.deadline)
        if now < due:
            self._timer = self._loop.call_at(due, self._look)
        elif now >= exchange.deadline:
            self._end(TooLong("the answer took too long"))
        else:
            self._end(Stalled("nothing came for too long"))


def _ends_with_connection(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether only the connection's end tells where the body ends. Raises `NotHttp` where two parsers could differ."""
    has_length = False
    coding: bytes | None = None
    for name, value in headers:
        if len(name) in {14, 17}:  # of these two; most others need not be made lower
            plain = name.lower()
            if plain == b"content-length":
                has_length = True
            elif plain == b"transfer-encoding":
                if coding is not None:
                    raise NotHttp("two codings")
                coding = value.lower()
    if coding is not None and (has_length or coding != b"chunked"):
        raise NotHttp("a coding beside a length, or another than chunked")
    return not has_length and coding is None
