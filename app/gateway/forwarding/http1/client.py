"""Requests, by connections that are kept for the next one.

A connection that a server has closed meanwhile is found out where nothing of an answer has come: a request that may be made
twice without harm (RFC 9110, 9.2.2) is made once more, by a new one. Any other fails: whether it was taken isn't known.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

from app.gateway.forwarding.http1.connection import Connection
from app.gateway.forwarding.http1.dial import Dialer
from app.gateway.forwarding.http1.exchange import Exchange
from app.gateway.forwarding.http1.faults import Cut, TooLong
from app.gateway.forwarding.http1.origin import Origin, place_of

KEPT_FOR = 30.0
"""Seconds that a free connection is kept."""
JOINED = 65_536
"""Bytes of a body that are copied behind the head, so that both leave together."""
_MAY_BE_REPEATED = frozenset({"GET", "PUT", "DELETE"})
_WITHOUT_BODY = frozenset({"GET"})


@dataclass(frozen=True, slots=True)
class Streamed:
    """A body that isn't held whole. `pieces` may be asked for again, and come to `size` bytes."""

    pieces: Callable[[], AsyncIterator[bytes]]
    size: int


class Client:
    """A process's. Times are in seconds."""

    def __init__(self, *, connect_timeout: float, idle_timeout: float, total_timeout: float, allow_link_local: bool) -> None:
        self._total_timeout = total_timeout
        self._dialer = Dialer(timeout=connect_timeout, idle_timeout=idle_timeout, allow_link_local=allow_link_local)
        self._loop = asyncio.get_running_loop()
        self._free: dict[Origin, dict[Connection, None]] = {}
        self._open: set[Connection] = set()
        self._sweeping: asyncio.TimerHandle | None = None

    async def send(self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | Streamed | None = None) -> Exchange:
        """An exchange whose head has come. Raises `HttpFault`, and `ValueError` for what can't be sent."""
        origin, start = place_of(url)
        deadline = self._loop.time() + self._total_timeout
        head = _head(method, start, headers, body)
        while True:
            connection = self._take(origin) or await self._dial(origin, deadline)
            exchange = _begin(connection, head, body, deadline)
            try:
                if isinstance(body, Streamed):
                    await exchange.send(body.pieces())
                await exchange.answered()
            except Cut:
                if not connection.was_used or method not in _MAY_BE_REPEATED:
                    raise
            except BaseException:
                exchange.close()
                raise
            else:
                return exchange

    def close(self) -> None:
        """What is under way ends with `Cut`."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        for connection in list(self._open):
            connection.close()

    def opened(self, connection: Connection) -> None:
        self._open.add(connection)

    def freed(self, connection: Connection) -> None:
        self._free.setdefault(connection.origin, {})[connection] = None
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(KEPT_FOR, self._sweep)

    def lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        if kept := self._free.get(connection.origin):
            kept.pop(connection, None)

    def _take(self, origin: Origin) -> Connection | None:
        """The one that was used last, as it is the least likely to have been closed."""
        kept = self._free.get(origin)
        while kept:
            connection, _ = kept.popitem()
            if connection.is_open and self._loop.time() - connection.free_since < KEPT_FOR:
                return connection
            connection.close()
        return None

    async def _dial(self, origin: Origin, deadline: float) -> Connection:
        left = deadline - self._loop.time()
        if left <= 0:
            raise TooLong("no time is left for a connection")
        return await self._dialer.dial(origin, self, within=left)

    def _sweep(self) -> None:
        self._sweeping = None
        now = self._loop.time()
        for origin, kept in list(self._free.items()):
            for connection in [one for one in kept if now - one.free_since >= KEPT_FOR]:
                del kept[connection]
                connection.close()
            if not kept:
                del self._free[origin]
        if self._free:
            self._sweeping = self._loop.call_later(KEPT_FOR, self._sweep)


def _begin(connection: Connection, head: bytes, body: bytes | Streamed | None, deadline: float) -> Exchange:
    if not isinstance(body, bytes):
        return connection.begin(head, deadline=deadline, is_whole=body is None)
    if len(body) <= JOINED:
        return connection.begin(head + body, deadline=deadline, is_whole=True)
    exchange = connection.begin(head, deadline=deadline, is_whole=True)
    connection.write(body)
    return exchange


def _head(method: str, start: bytes, headers: Mapping[str, str], body: bytes | Streamed | None) -> bytes:
    """`start`: what `place_of` gives. Raises `ValueError` for a header that would be another one, or the end of them."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if lines.count("\n") != len(headers) or lines.count("\r") != len(headers) or "\0" in lines:
        raise ValueError("a header holds a line feed, or what is no text")
    if body is not None:
        lines += f"Content-Length: {body.size if isinstance(body, Streamed) else len(body)}\r\n"
    elif method not in _WITHOUT_BODY:
        lines += "Content-Length: 0\r\n"
    try:
        written = lines.encode("latin-1")  # a client's bytes, as they came
    except UnicodeEncodeError:
        written = lines.encode()
    return b"%b %b%b\r\n" % (method.encode(), start, written)
