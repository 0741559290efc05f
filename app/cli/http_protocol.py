"""HTTP as uvicorn speaks it, with what a server before strangers needs beside.

llhttp refuses most of what two parsers could read in two ways. What it lets through is refused here: other codings than
`chunked`, chunks in HTTP/1.0, a Host that is missing or there twice, other versions, and offers to upgrade that stand before a
body, which it would take for the other protocol. Trailers are dropped: uvicorn would add them to the head that is in use.

Java's own client sends `Upgrade: h2c` with each request to a plain address, which a server may ignore (RFC 9110, 7.8): that
offer is taken out before the parser sees it. One that is cut in two by the network stays, and is refused.

A head has a largest size; head and body have a time in which to come; connections beyond the most are told so. Whatever is
wrong is told in the envelope of the path, and ends the connection once what was asked for before has been answered.
"""

import asyncio
import re
from dataclasses import dataclass
from typing import Any

import httptools
from uvicorn import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from app.cli.http_refusals import LARGEST_HEAD, MOST_HEADERS, answering, head_too_large, no_room, told
from app.errors import InvalidRequest, ProxyError, RequestTooSlow

_OFFER = re.compile(rb"\r\nupgrade:[ \t]*h2c[ \t]*(?=\r\n)", re.IGNORECASE)
_LARGEST_OFFERING_HEAD = 16_384
"""Bytes in which an offer is looked for."""
_LARGEST_PIECE = 262_144
"""Bytes that uvloop reads at once."""
SLOWEST_BODY = 1_000
"""Bytes a second, which a body must come at once its first seconds are over."""
LONGEST_CREDIT = 300.0
"""Seconds that what has come of a body is worth at most."""
SURPLUS_WAIT = 5.0
"""Seconds in which a request must have come that is refused for want of room, or whose process is stopping."""
LINGER = 1.0
"""Seconds in which a client that is still sending may read that it was refused: closed at once, the answer would be lost."""
_TELLING = frozenset({b"host", b"content-length", b"transfer-encoding", b"upgrade", b"expect"})
_VERSIONS = ("1.1", "1.0")
_CODING = "The only Transfer-Encoding that is taken is `chunked`, in HTTP/1.1."
_MALFORMED = "This is no HTTP/1.1 that could be read in one way only. Check the request line, the headers, and how the body is framed."


@dataclass(frozen=True, slots=True)
class Limits:
    """`connections`: of one process. `patience`: seconds for a head, and for a body before it has to come at `SLOWEST_BODY`."""

    connections: int
    patience: float


class LimitedConfig(Config):
    """What a server and its workers are told."""

    def __init__(self, *args: Any, limits: Limits, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.limits = limits


class HttpProtocol(HttpToolsProtocol):
    __slots__ = (
        "_bare", "_coding", "_deadline", "_had_body", "_has_body", "_hosts", "_in_head", "_is_over", "_is_surplus", "_most", "_offer",
        "_patience", "_refusal", "_timer",
    )  # fmt: skip

    def __init__(self, config: LimitedConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        self._most = config.limits.connections
        self._patience = config.limits.patience
        self._is_surplus = False
        self._is_over = False  # what comes from now on is not read
        self._in_head = False
        self._had_body = False
        self._bare = 0  # bytes that have come since the head or the last of a body did
        self._hosts = 0
        self._coding: bytes | None = None
        self._has_body = False
        self._offer = False  # to upgrade
        self._refusal: ProxyError | None = None
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        surplus = len(self.connections) - self._most
        if surplus > 0:
            self._is_surplus = True
            self._patience = min(self._patience, SURPLUS_WAIT)
        if surplus > self._most // 10 + 16:
            self._answer(no_room())
            transport.close()
        else:
            self._watch(0)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._is_over = True
        self._unset_keepalive_if_required()
        self._set_timer(None)

    def data_received(self, data: bytes) -> None:
        if self._is_over:
            return
        cycle, was_in_head = self.cycle, self._in_head
        if (cycle is None or cycle.response_complete) and data.find(b"h2c", 0, _LARGEST_OFFERING_HEAD) >= 0:
            head, end, body = data.partition(b"\r\n\r\n")
            data = _OFFER.sub(b"", head + b"\r\n")[:-2] + end + body
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        self._bare += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self._refuse(self._refusal or InvalidRequest(_MALFORMED, code="malformed_http"))
            return
        cycle = self.cycle
        if self._in_head or cycle is None or cycle.more_body or cycle.response_complete:
            self._expect_more(len(data), was_in_head)

    def _feed(self, data: bytes) -> None:
        """An offer to upgrade that has no body is declined by its answer; what follows it is the next request."""
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                data = data[offer.args[0] :]
            else:
                return

    def _expect_more(self, size: int, was_in_head: bool) -> None:
        """What came was not all of a request, or nothing of one."""
        if self._had_body:
            self._had_body, self._bare = False, size if self._in_head else 0
        elif self._in_head and not was_in_head:
            self._bare = size
        elif self._bare > LARGEST_HEAD + _LARGEST_PIECE:  # which may have begun with what belongs to a request before
            self._refuse(head_too_large())
            return
        if self.timeout_keep_alive_task is None:
            self._watch(size)

    def shutdown(self) -> None:
        super().shutdown()
        if self._deadline is not None and not self._is_over:
            self._deadline = min(self._deadline, self.loop.time() + SURPLUS_WAIT)
            self._set_timer(SURPLUS_WAIT)

    # what the parser tells

    def on_message_begin(self) -> None:
        if self._deadline is not None:
            self._deadline = self.loop.time() + self._patience
        self._in_head, self._hosts, self._coding, self._has_body, self._offer = True, 0, None, False, False
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """In place of uvicorn's own."""
        if not self._in_head:
            return  # a trailer
        name = name.lower()
        if name in _TELLING:
            self._tell(name, value)
        self.headers.append((name, value))

    def _tell(self, name: bytes, value: bytes) -> None:
        if name == b"host":
            self._hosts += 1
        elif name == b"content-length":
            self._has_body = self._has_body or value.strip() != b"0"
        elif name == b"transfer-encoding":
            self._coding, self._has_body = value.strip().lower(), True
        elif name == b"upgrade":
            self._offer = True
        elif value.lower() == b"100-continue":
            self.expect_100_continue = True

    def on_headers_complete(self) -> None:
        """A refusal is raised out of the parser, which makes an error of its own of it."""
        self._in_head = False
        self._refusal = self._fault_of_head()
        if self._refusal is not None:
            raise self._refusal
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """In place of uvicorn's own."""
        self._had_body = True
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.body += body
            if len(cycle.body) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()
            cycle.message_event.set()

    def on_message_complete(self) -> None:
        """In place of uvicorn's own."""
        self._deadline, self._bare = None, 0
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.more_body = False
            cycle.message_event.set()

    def _fault_of_head(self) -> ProxyError | None:
        if len(self.headers) > MOST_HEADERS or (self._bare > LARGEST_HEAD and self._size_of_head() > LARGEST_HEAD):
            return head_too_large()
        version = self.parser.get_http_version()
        if version not in _VERSIONS:
            return InvalidRequest("HTTP/1.1 is spoken here, and no other version.", code="unsupported_http_version")
        if self._hosts != 1 and (self._hosts or version == "1.1"):
            return InvalidRequest("A request must have the header `Host` once.", code="invalid_host")
        if self._coding is not None and (version == "1.0" or self._coding != b"chunked"):
            return InvalidRequest(_CODING, code="unsupported_transfer_encoding")
        if self._offer and self._has_body and self.parser.should_upgrade():
            return InvalidRequest("No other protocol is spoken here: leave out the header `Upgrade`.", code="unsupported_upgrade")
        return no_room() if self._is_surplus else None

    def _size_of_head(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    # how a connection ends

    def _refuse(self, refusal: ProxyError) -> None:
        """What was asked for before is still answered. What is at fault may have begun, or wait for its turn."""
        cycle = self.cycle
        if cycle is None or (cycle.response_complete and (self._in_head or not cycle.more_body)):
            self._answer(refusal)
        elif cycle.response_complete or (cycle.response_started and cycle.more_body):
            self._is_over = True
            self.transport.close()
        elif not cycle.more_body:
            self._end_after_answer()
        elif self.pipeline:
            self.pipeline[0] = (cycle, answering(refusal))
            self._end_after_answer()
        else:
            cycle.waiting_for_100_continue = False
            cycle.disconnected = True
            cycle.message_event.set()
            self._answer(refusal)

    def _end_after_answer(self) -> None:
        """To the newest request, which those before it have been answered by then."""
        self._is_over = True
        self.cycle.keep_alive = False

    def _answer(self, refusal: ProxyError) -> None:
        self._is_over = True
        headers, content = told(refusal, self.url, self.headers) if self.headers is not None else told(refusal, b"", [])
        lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        self.transport.write(STATUS_LINE[refusal.status] + lines + b"\r\n" + content)
        self.transport.write_eof()
        self._set_timer(LINGER)

    # slow clients

    def _watch(self, size: int) -> None:
        """One timer a connection, which looks whether the time has run out: requests that come whole cost nothing here."""
        now = self.loop.time()
        if self._deadline is None:
            self._deadline = now + self._patience
        elif not self._in_head:
            self._deadline = min(self._deadline + size / SLOWEST_BODY, now + LONGEST_CREDIT)
        if self._timer is None:
            self._set_timer(self._patience)

    def _set_timer(self, after: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if after is None else self.loop.call_later(after, self._look)

    def _look(self) -> None:
        self._timer = None
        now = self.loop.time()
        if self._is_over:
            self.transport.abort()
        elif self._deadline is None:
            return
        elif self.flow.read_paused:  # it isn't the client who is slow
            self._deadline = now + self._patience
            self._set_timer(self._patience)
        elif now < self._deadline:
            self._set_timer(self._deadline - now)
        elif self._in_head or not (self.cycle is None or self.cycle.response_complete):
            self._refuse(RequestTooSlow("The request did not come whole in time. Send it again, faster."))
        else:
            self.transport.close()

    def timeout_keep_alive_handler(self) -> None:
        """A client that hasn't taken the last answer by then doesn't keep the connection either."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()
