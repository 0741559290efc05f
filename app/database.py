"""The declarative base, the engine and the one helper that commits.

`Database.transaction()` is the only place where application code commits; `Database.autocommit()` is for the ledger's single
statements, which are transactions in themselves, and `Database.rows()` and `Database.count()` for those that calls wait for. A database
that can't be reached raises `Unavailable`.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from typing import Any

import asyncpg
from sqlalchemy import Connection, Executable, event
from sqlalchemy.engine.interfaces import DBAPIConnection, Dialect
from sqlalchemy.exc import DBAPIError, DisconnectionError, InterfaceError, MissingGreenlet, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.util import greenlet_spawn
from sqlalchemy.util.concurrency import in_greenlet

from app.errors import Unavailable

SCHEMA = "aigcspace"
CONNECT_TIMEOUT = 5.0
"""Seconds to open a connection or to get one from the pool."""
CLOSE_TIMEOUT = 1.0
"""Seconds to close all connections."""
COMMAND_TIMEOUT = 15.0
"""Seconds that a statement may take."""
LEDGER_TIMEOUT = 5.0
"""Seconds that a statement of the ledger may take: calls wait for it."""
LEDGER_POOL = 9
"""Connections: one for reservations and one for settlements, as many as lanes for those that wait for locks, one for recovery."""
FEED_POOL = 1
"""The connection that listens for changes."""
CALLS_POOL = 4
"""Connections for what else calls need: looking keys up, what upstreams keep, background responses, the catalog."""
OWN_POOLS = LEDGER_POOL + FEED_POOL + CALLS_POOL
"""Connections that a process opens beside those of `DATABASE_POOL`."""
LOCK_WAIT = 200
"""Milliseconds that a batch of the ledger waits for a lock. Whose calls they are that wait is told apart after that."""


ACTOR = "actor"
"""In `session.info`: who makes the changes of this transaction. Absent: whoever runs this process."""
_acting: ContextVar[str | None] = ContextVar("acting", default=None)


def acts(actor: str) -> None:
    """From here on, the task that serves this request changes things in the name of `actor`."""
    _acting.set(actor)


class Base(DeclarativeBase):
    """Tables of the `aigcspace` schema."""


class Database:
    """One engine: a pool of connections. `timeout`: seconds that a statement may take."""

    def __init__(self, url: str, *, pool_size: int = 8, timeout: float = COMMAND_TIMEOUT, application_name: str = "billing-proxy") -> None:
        self.engine = create_async_engine(
            url,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=CONNECT_TIMEOUT,
            pool_use_lifo=True,
            hide_parameters=True,  # errors are logged, and what is sent holds hashes and secrets
            connect_args={
                "timeout": CONNECT_TIMEOUT,
                "command_timeout": timeout,
                "server_settings": {"application_name": application_name, "jit": "off", "timezone": "UTC"},
            },
        )
        event.listen(self.engine.sync_engine, "checkout", _only_open)
        event.listen(self.engine.sync_engine, "do_connect", _only_where_it_may_wait)
        self._autocommit = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        self._sessions = async_sessionmaker(self.engine, expire_on_commit=False)

    @asynccontextmanager
    async def transaction(self, *, actor: str | None = None) -> AsyncIterator[AsyncSession]:
        """A session that commits when its block ends, and rolls back when the block raises. `actor`: who makes the changes in
        it; by default whom `acts` has named."""
        async with reachable(), self._sessions.begin() as session:
            if named := actor or _acting.get():
                session.info[ACTOR] = named
            yield session

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """A session for queries; nothing in it is committed."""
        async with reachable(), self._sessions() as session:
            yield session

    @asynccontextmanager
    async def autocommit(self) -> AsyncIterator[AsyncConnection]:
        """A connection on which every statement is its own transaction. One that gave no answer in time isn't used again."""
        async with self._autocommit.connect() as connection:
            try:
                yield connection
            except TimeoutError:
                await connection.invalidate()
                raise

    def written(self, statement: Executable) -> "Written":
        return Written(statement, self.engine.dialect)

    async def rows(self, statement: "Written", values: Mapping[str, Any]) -> list[asyncpg.Record]:
        """What the statement returns, which is its own transaction. Raises the driver's errors, and SQLAlchemy's where no connection can
        be had."""
        async with self._driver() as connection:
            return list(await connection.fetch(statement.sql, *statement.arguments(values)))

    async def count(self, statement: "Written", values: Mapping[str, Any]) -> int:
        """The same, for how many rows it wrote."""
        async with self._driver() as connection:
            status: str = await connection.execute(statement.sql, *statement.arguments(values))
        return int(status.rpartition(" ")[2])

    @asynccontextmanager
    async def _driver(self) -> AsyncIterator[Any]:
        """The driver's side of a connection. One that gave no answer in time, or whose state isn't known, isn't used again."""
        opened = await self._connected()
        try:
            yield opened.connection.driver_connection
        except asyncpg.PostgresError:
            raise
        except TimeoutError:
            await greenlet_spawn(opened.invalidate)
            raise
        except BaseException:
            opened.invalidate()
            raise
        finally:
            opened.close()

    async def _connected(self) -> Connection:
        """One that is free is had without a greenlet, whose stack the system has to make."""
        if self._pool.checkedin():
            with suppress(MissingGreenlet):  # the server has closed it: another one has to be opened
                return self.engine.sync_engine.connect()
        return await greenlet_spawn(self.engine.sync_engine.connect)

    @property
    def connections(self) -> tuple[int, int]:
        """How many there may be, and how many are in use."""
        return self._pool.size(), self._pool.checkedout()

    @property
    def _pool(self) -> QueuePool:
        pool = self.engine.pool
        assert isinstance(pool, QueuePool)
        return pool

    async def close(self) -> None:
        """A server that hangs is not waited for: its connections end with the process."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self.engine.dispose()


class Written:
    """A statement as the driver takes it, for one that is run for each batch of calls: SQLAlchemy writes it and keeps the connections, and
    only its way of executing is left out, which takes 200 µs of CPU a batch more than the driver's. Values go to the driver as they are:
    types that SQLAlchemy would convert are none for it."""

    def __init__(self, statement: Executable, dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect)  # type: ignore[attr-defined]
        assert isinstance(compiled, SQLCompiler)
        self.sql = str(compiled)
        self._names = compiled.positiontup or []
        self._fixed = {name: value for name, value in compiled.params.items() if not compiled.binds[name].required}

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        whole = {**self._fixed, **values}
        return [whole[name] for name in self._names]


def _only_open(_: DBAPIConnection, record: ConnectionPoolEntry, _proxy: object) -> None:
    """A connection that the server has closed meanwhile, as at a restart, is replaced before it is used."""
    opened = record.driver_connection
    if isinstance(opened, asyncpg.Connection) and opened.is_closed():
        raise DisconnectionError("the server has closed it")


def _only_where_it_may_wait(*_: object) -> None:
    """SQLAlchemy finds it out later, and leaves the driver's coroutine lying."""
    if not in_greenlet():
        raise MissingGreenlet("a connection can't be opened here")


_LOCKED = "55P03"
_AWAY_STATES = ("08", "53", "57", "40", _LOCKED, "55000")
"""SQLSTATEs, or their beginnings, of a server that is there but did not do the work, and may do it the next time:
connection, resources, shutdown, cancelled, deadlock, lock not available.
https://www.postgresql.org/docs/current/errcodes-appendix.html"""


def is_away(error: BaseException) -> bool:
    """Whether the error says that the database can't be reached or gave no answer, rather than that the data is wrong."""
    if isinstance(error, (OSError, TimeoutError, PoolTimeoutError, OperationalError, InterfaceError, asyncpg.InterfaceError)):
        return True
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    if isinstance(error, asyncpg.InternalClientError):  # the driver's own state; one whose schema has changed would be so again
        return not isinstance(error, asyncpg.OutdatedSchemaCacheError)
    return isinstance(error, (DBAPIError, asyncpg.PostgresError)) and sqlstate(error).startswith(_AWAY_STATES)


def is_locked(error: BaseException) -> bool:
    """Whether a lock that others have could not be had in time."""
    return isinstance(error, (DBAPIError, asyncpg.PostgresError)) and sqlstate(error) == _LOCKED


def sqlstate(error: BaseException) -> str:
    """Five characters, or none where the error is not the server's. SQLAlchemy's errors and asyncpg's own have it alike."""
    return str(getattr(_cause(error), "sqlstate", None) or "")


def said(error: BaseException) -> str:
    """What the database said, in one line."""
    cause = _cause(error)
    return str(cause).rpartition("asyncpg.exceptions.")[2].partition("\n")[0] or type(cause).__name__


def _cause(error: BaseException) -> BaseException:
    if isinstance(error, Unavailable) and error.__cause__ is not None:
        return _cause(error.__cause__)
    return error.orig if isinstance(error, DBAPIError) and error.orig else error


@asynccontextmanager
async def reachable() -> AsyncIterator[None]:
    """A block in which the database's being away is `Unavailable`."""
    try:
        yield
    except (DBAPIError, OSError, PoolTimeoutError) as error:
        if is_away(error):
            raise Unavailable("The database can't be reached at the moment. Try again shortly.", code="database_unavailable") from error
        raise
