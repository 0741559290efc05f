"""A TCP relay between the proxy and PostgreSQL, that loses on command what is under way.

    with DatabaseRelay(db.url) as relay:                    # relay.url is what DATABASE_URL takes
        relay.drop_reply(containing="aigcspace.settle(")    # it is committed, and nobody hears of it
        relay.drop_request(containing="aigcspace.reserve(") # it never arrives
        relay.black_hole()                                  # nothing passes either way, until pass_all()
        relay.refuse()                                      # as a server that is stopped, until resume()

It reads the frontend/backend protocol, version 3 (https://www.postgresql.org/docs/current/protocol-message-formats.html),
as far as it takes to know of which statement an Execute is. It speaks no TLS, and goes to a server on TCP or on a unix
socket. It runs in a thread of its own; commands work from any thread, and are in force when they return.
"""

import asyncio
import struct
import threading
from collections import Counter, deque
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from socket import AF_INET, SO_LINGER, SO_REUSEPORT, SOCK_STREAM, SOL_SOCKET, socket
from typing import Any, Self, TypeVar

from sqlalchemy import make_url

T = TypeVar("T")
_ENCRYPTION = (80877103, 80877104)
"""SSLRequest and GSSENCRequest, in the place of the protocol's version."""
_CANCEL = 80877102
_AUTHENTICATION, _TERMINATE = b"p", b"X"


@dataclass(eq=False)
class Drop:
    """What is still to be lost: `times` statements whose text contains `containing`."""

    containing: str
    times: int

    def takes(self, sql: str) -> bool:
        if not self.times or self.containing not in sql:
            return False
        self.times -= 1
        return True


class DatabaseRelay:
    """`dropped_replies`: of statements that were committed; an error or a rollback passes, and the next one is waited for.
    `dropped_requests`: of statements that never reached the server. `connections`: accepted so far."""

    def __init__(self, server: str) -> None:
        target = make_url(server)
        host, port = target.query.get("host", target.host), target.query.get("port", target.port) or 5432
        self._target = (str(host), int(str(port)))
        self.dropped_replies = self.dropped_requests = self.connections = 0
        self.executed: Counter[str] = Counter()
        self.replies: list[Drop] = []
        self.requests: list[Drop] = []
        self.passing = asyncio.Event()
        self.passing.set()
        self._serving: dict[asyncio.Task[None], _Connection] = {}
        self._listener: asyncio.Server | None = None
        self._place = socket(AF_INET, SOCK_STREAM)  # keeps the port ours while nobody listens there
        self._place.setsockopt(SOL_SOCKET, SO_REUSEPORT, 1)
        self._place.bind(("127.0.0.1", 0))
        self.port = int(self._place.getsockname()[1])
        query = {name: value for name, value in target.query.items() if name not in ("host", "port")}
        self.url = target.set(host="127.0.0.1", port=self.port, query=query).render_as_string(hide_password=False)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="database-relay", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.resume()
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        self._place.close()

    # what a test says

    def pass_all(self) -> None:
        """Ends all that was commanded. What a black hole kept goes on its way."""
        self._run(self._pass_all())

    def drop_reply(self, *, containing: str, times: int = 1) -> None:
        """The statement goes to the server; its answer, once complete, is thrown away, and the connection is reset. In a
        transaction, it is the answer to its COMMIT that is lost."""
        self._run(_append(self.replies, Drop(containing, times)))

    def drop_request(self, *, containing: str, times: int = 1) -> None:
        """The connection is reset before the statement is executed."""
        self._run(_append(self.requests, Drop(containing, times)))

    def black_hole(self) -> None:
        """Connections are accepted and kept, and nothing passes in either direction, not even that one side has left."""
        self._run(_call(self.passing.clear))

    def cut(self) -> None:
        """Resets every connection there is."""
        self._run(self._cut())

    def refuse(self) -> None:
        """Resets every connection, and refuses new ones."""
        self._run(self._refuse())

    def resume(self) -> None:
        """Listens again, on the same port. What else was commanded stays."""
        self._run(self._listen())

    def count(self, containing: str) -> int:
        """How many statements with this text were asked to be executed so far, dropped or not."""
        return sum(times for sql, times in self._run(_call(lambda: list(self.executed.items()))) if containing in sql)

    @property
    def open(self) -> int:
        """Connections that are open now."""
        return len(self._serving)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    # in the relay's own thread

    async def _pass_all(self) -> None:
        self.replies.clear()
        self.requests.clear()
        self.passing.set()
        await self._listen()

    async def _listen(self) -> None:
        if self._listener is None:
            self._listener = await asyncio.start_server(self._accept, "127.0.0.1", self.port, backlog=512, reuse_port=True)

    async def _refuse(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
        await self._cut()

    async def _cut(self) -> None:
        for task, connection in self._serving.items():
            connection.is_reset = True
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await asyncio.sleep(0)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.connections += 1
        connection = self._serving[task] = _Connection(self, reader, writer)
        try:
            await connection.carry()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            connection.close()
            del self._serving[task]

    async def reach_server(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = self._target
        if host.startswith("/"):
            return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        return await asyncio.open_connection(host, port)


class _ResetError(ConnectionError):
    """The relay itself ends this connection."""


@dataclass
class _Turn:
    """What the server answers in one go, up to its ReadyForQuery. `loses`: this answer is to be lost; until it is
    complete, `kept` holds it."""

    loses: Drop | None = None
    kept: bytearray = field(default_factory=bytearray)
    has_failed: bool = False


class _Connection:
    """One client of the relay, and the connection to the server that is its own."""

    def __init__(self, relay: DatabaseRelay, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.is_reset = False
        self._relay = relay
        self._client, self._to_client = reader, writer
        self._to_server: asyncio.StreamWriter | None = None
        self._statements: dict[str, str] = {}
        self._portals: dict[str, str] = {}
        self._turns: deque[_Turn] = deque([_Turn()])  # the first is the start of the session
        self._turn_is_open = False
        self._uncommitted: list[Drop] = []

    async def carry(self) -> None:
        start, code = await self._read_start()
        await self._relay.passing.wait()
        server, to_server = await self._relay.reach_server()
        self._to_server = to_server
        to_server.write(start)
        ways = [asyncio.ensure_future(self._from_server(server))]
        if code != _CANCEL:
            ways.append(asyncio.ensure_future(self._from_client(to_server)))
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            self.is_reset |= any(way.done() and isinstance(way.exception(), _ResetError) for way in ways)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    def close(self) -> None:
        if self._to_server is not None:
            self._to_server.close()
        if self.is_reset:
            with suppress(OSError):  # it may be closed already
                self._to_client.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
            self._to_client.transport.abort()
        self._to_client.close()

    async def _read_start(self) -> tuple[bytes, int]:
        while True:
            head = await self._client.readexactly(8)
            length, code = struct.unpack("!ii", head)
            if code not in _ENCRYPTION:
                return head + await self._client.readexactly(length - 8), code
            await self._relay.passing.wait()
            self._to_client.write(b"N")

    async def _from_client(self, to_server: asyncio.StreamWriter) -> None:
        while message := await self._next(self._client):
            kind, content = message[:1], message[5:]
            sql = self._statement_of(kind, content)
            if sql is not None:
                self._relay.executed[sql] += 1
                if any(drop.takes(sql) for drop in self._relay.requests):
                    self._relay.dropped_requests += 1
                    raise _ResetError
            if kind not in (_AUTHENTICATION, _TERMINATE):
                self._open_turn(sql, ends=kind in (b"Q", b"S", b"F"))
            to_server.write(message)
            await to_server.drain()

    async def _from_server(self, server: asyncio.StreamReader) -> None:
        while message := await self._next(server):
            turn = self._turns[0] if self._turns else _Turn()
            kind = message[:1]
            if kind == b"Z" and self._turns:
                self._turns.popleft()
            if turn.loses is not None:
                turn.kept += message
                turn.has_failed |= kind == b"E"
                if kind != b"Z":
                    continue
                message = self._answer_left(turn, turn.loses, status=message[5:])
            self._to_client.write(message)
            await self._to_client.drain()

    async def _next(self, reader: asyncio.StreamReader) -> bytes:
        """A whole message, when it may pass; nothing at the end."""
        try:
            head = await reader.readexactly(5)
            message = head + await reader.readexactly(int.from_bytes(head[1:]) - 4)
        except (asyncio.IncompleteReadError, ConnectionError):
            message = b""
        await self._relay.passing.wait()
        return message

    def _statement_of(self, kind: bytes, content: bytes) -> str | None:
        """The text of what this message executes; of others, what has to be remembered is."""
        if kind == b"P":
            name, sql = _texts(content, 2)
            self._statements[name] = sql
        elif kind == b"B":
            portal, name = _texts(content, 2)
            self._portals[portal] = self._statements.get(name, "")
        elif kind == b"E":
            return self._portals.get(_texts(content, 1)[0], "")
        elif kind == b"Q":
            return _texts(content, 1)[0]
        return None

    def _open_turn(self, sql: str | None, *, ends: bool) -> None:
        if not self._turn_is_open:
            self._turns.append(_Turn())
        turn = self._turns[-1]
        self._turn_is_open = not ends
        if sql is None:
            return
        if self._uncommitted and sql.upper().startswith(("COMMIT", "END")):
            turn.loses = self._uncommitted.pop()
        elif self._uncommitted and sql.upper().startswith("ROLLBACK"):
            self._uncommitted.pop().times += 1
        else:
            turn.loses = turn.loses or next((drop for drop in self._relay.replies if drop.takes(sql)), None)

    def _answer_left(self, turn: _Turn, drop: Drop, *, status: bytes) -> bytes:
        """What of a turn's whole answer the client gets after all. Raises when it is lost, and the client with it."""
        if turn.has_failed or status == b"E":
            drop.times += 1
        elif status == b"T":
            self._uncommitted.append(drop)
        else:
            self._relay.dropped_replies += 1
            raise _ResetError
        return bytes(turn.kept)


def _texts(content: bytes, number: int) -> list[str]:
    """The zero-terminated texts with which a message starts."""
    return [text.decode(errors="replace") for text in content.split(b"\0", number)[:number]]


async def _append(drops: list[Drop], drop: Drop) -> None:
    drops.append(drop)


async def _call(then: Any) -> Any:
    return then()
