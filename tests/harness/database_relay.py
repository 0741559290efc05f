"""A TCP relay between the proxy and PostgreSQL, that loses on command what is under way.

    with DatabaseRelay(db.url) as relay:                    # relay.url is what DATABASE_URL takes
        relay.drop_reply(containing="aigcspace.settle(")    # it is committed, and nobody hears of it
        relay.drop_request(containing="aigcspace.reserve(") # it never arrives
        relay.black_hole()                                  # nothing passes either way, until pass_all()
        relay.refuse()                                      # as a server that is stopped, until resume()
        relay.lose_notices()                                # LISTEN succeeds and nothing is heard, as through a pooler

It speaks no TLS, and goes to a server on TCP or on a unix socket. It runs in a thread of its own; commands work from any
thread, and are in force when they return.
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

from tests.harness import postgres_wire as wire

T = TypeVar("T")
M = TypeVar("M", bound=wire.Message)


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
        self.loses_notices = False
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

    def lose_notices(self) -> None:
        """No NOTIFY reaches a client any more: a pooler in transaction mode has the session that listens without its client."""
        self.loses_notices = True

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
        self._statements = wire.Statements()
        self._turns: deque[_Turn] = deque([_Turn()])  # the first is the start of the session
        self._turn_is_open = False
        self._uncommitted: list[Drop] = []

    async def carry(self) -> None:
        start = await self._read_start()
        await self._relay.passing.wait()
        server, to_server = await self._relay.reach_server()
        self._to_server = to_server
        to_server.write(start)
        ways = [asyncio.ensure_future(self._from_server(server))]
        if not start.is_cancel:
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

    async def _read_start(self) -> wire.Start:
        while (start := await wire.read_start(self._client)).asks_for_encryption:
            await self._relay.passing.wait()
            self._to_client.write(wire.NO_ENCRYPTION)
        return start

    async def _from_client(self, to_server: asyncio.StreamWriter) -> None:
        while request := await self._next(self._client, wire.Request):
            sql = self._statements.executed_by(request)
            if sql is not None:
                self._relay.executed[sql] += 1
                if any(drop.takes(sql) for drop in self._relay.requests):
                    self._relay.dropped_requests += 1
                    raise _ResetError
            if request.is_answered:
                self._open_turn(sql, ends=request.ends_turn)
            to_server.write(request)
            await to_server.drain()

    async def _from_server(self, server: asyncio.StreamReader) -> None:
        while answer := await self._next(server, wire.Answer):
            if answer.is_notice and self._relay.loses_notices:
                continue
            turn = self._turns[0] if self._turns else _Turn()
            if answer.is_ready and self._turns:
                self._turns.popleft()
            if turn.loses is None:
                self._to_client.write(answer)
            else:
                turn.kept += answer
                turn.has_failed |= answer.is_error
                if not answer.is_ready:
                    continue
                self._to_client.write(self._left_of(turn, turn.loses, ready=answer))
            await self._to_client.drain()

    async def _next(self, reader: asyncio.StreamReader, kind: type[M]) -> M:
        """A whole message, when it may pass; an empty one at the end."""
        message = await wire.read(reader, kind)
        await self._relay.passing.wait()
        return message

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

    def _left_of(self, turn: _Turn, drop: Drop, *, ready: wire.Answer) -> bytes:
        """What of a turn's whole answer the client gets after all. Raises when it is lost, and the client with it."""
        if turn.has_failed or ready.is_in_failed_transaction:
            drop.times += 1
        elif ready.is_in_transaction:
            self._uncommitted.append(drop)
        else:
            self._relay.dropped_replies += 1
            raise _ResetError
        return bytes(turn.kept)


async def _append(drops: list[Drop], drop: Drop) -> None:
    drops.append(drop)


async def _call(then: Any) -> Any:
    return then()
