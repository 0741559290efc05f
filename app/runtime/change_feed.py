"""The change feed: what anybody changes in the catalog, in keys or in users reaches this process at once.

Triggers notify `CHANNEL` of every change, whoever makes it (`app/ledger/functions/*_changed.sql`), and one connection of
each process listens. A listener that was cut off has missed what came meanwhile: after each connection all that is
remembered is taken for changed. A pooler in transaction mode takes LISTEN and never passes a notice on, so each connection
is first tried with a notice that is sent through another one. While nothing can be heard, all is taken for changed every
`poll` seconds.

It never ends by itself: what goes wrong is said once, and tried again.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import asyncpg
import structlog
from sqlalchemy import text
from uuid_utils.compat import uuid7

from app.database import Database, said

log = structlog.get_logger(__name__)

CHANNEL = "aigcspace_changes"
HELLO = "hello"
HELLO_WAIT = 2.0
"""Seconds in which the notice that tries a connection must come."""
HEARTBEAT = 5.0
"""Seconds without a notice after which the server is asked whether it is still there; it has as long to answer."""
PAUSE = 0.1
"""Seconds between two rounds of changes: many changes in a row are read a few times, not each."""
FIRST_RETRY, LONGEST_RETRY = 0.1, 5.0
DEAF_RETRY = 60.0
"""Seconds before another try where notices don't come through."""
FIRST_WAIT = 5.0
"""Seconds that a start gives the feed at most."""


class DeafError(Exception):
    """The connection takes LISTEN, and notices don't reach it."""


@dataclass(slots=True)
class Changes:
    """What to read anew. `callers`: notices as of `caller_notices`."""

    everything: bool = False
    catalog: bool = False
    callers: set[str] = field(default_factory=set)

    def add(self, notice: str) -> None:
        what = notice.partition(" ")[0]
        if what == "catalog":
            self.catalog = True
        elif what in ("key", "user"):
            self.callers.add(notice)
        elif what != HELLO:
            self.everything = True


Changed = Callable[[Changes], Awaitable[None]]


def caller_notices(*, key_id: int, user_id: str) -> tuple[str, str]:
    """What is notified when this key or this user changes: see `app/ledger/functions/caller_changed.sql`."""
    digest = hashlib.md5(user_id.encode(), usedforsecurity=False).hexdigest()
    return f"key {key_id & 1023}", f"user {digest[:3]}"


class ChangeFeed:
    """`listening`: for the one connection of the feed. `speaking`: for the notices that try it. `changed` raises where it can't
    read what has changed."""

    def __init__(self, listening: Database, speaking: Database, *, listens: bool, poll: float, changed: Changed) -> None:
        self._listening = listening
        self._speaking = speaking
        self._listens = listens
        self._poll_every = poll
        self._changed = changed
        self._pending = Changes()
        self._stirred = asyncio.Event()
        self._greeting = ""
        self._greeted = asyncio.Event()
        self._trouble: str | None = None
        self._begun = asyncio.Event()

    async def begun(self) -> None:
        """Returns when nothing is missed any more that others change, or when it is known that notices don't come through; in
        `FIRST_WAIT` at the latest. Whoever answers calls before acts on what was true when it started."""
        try:
            async with asyncio.timeout(FIRST_WAIT):
                await self._begun.wait()
        except TimeoutError:
            log.warning("this process begins without hearing of changes by others", reason=self._trouble)

    async def run(self) -> None:
        """Until cancelled."""
        retry = FIRST_RETRY
        while self._listens:
            try:
                async with self._connected() as connection:
                    await self._changed(Changes(everything=True))
                    self._begun.set()
                    retry = FIRST_RETRY
                    self._hears("changes are heard of again")
                    await self._follow(connection)
            except DeafError:
                self._begun.set()
                retry = DEAF_RETRY
                self._hears_not(f"notices don't come through: is there a pooler in transaction mode? Polling every {self._poll_every:g} s")
            except Exception as error:
                self._hears_not(said(error))
            await self._poll(retry)
            retry = min(2 * retry, LONGEST_RETRY)
        self._begun.set()
        await self._poll(float("inf"))

    async def hears(self) -> bool:
        """Whether notices come through."""
        try:
            async with self._connected():
                return True
        except DeafError:
            return False

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection of which it is known that notices come through. It is closed at the end."""
        async with self._listening.engine.connect() as pooled:
            try:
                connection = (await pooled.get_raw_connection()).driver_connection
                assert isinstance(connection, asyncpg.Connection)
                self._pending, self._greeting = Changes(), f"{HELLO} {uuid7()}"
                self._stirred.clear()
                self._greeted.clear()
                connection.add_termination_listener(self._on_end)
                await connection.add_listener(CHANNEL, self._on_notice)
                await self._try(connection)
                yield connection
            finally:
                await pooled.invalidate()

    async def _try(self, connection: asyncpg.Connection) -> None:
        async with self._speaking.autocommit() as other:
            await other.execute(text("SELECT pg_notify(:channel, :payload)"), {"channel": CHANNEL, "payload": self._greeting})
        try:
            async with asyncio.timeout(HELLO_WAIT):
                await self._greeted.wait()
        except TimeoutError:
            raise DeafError from None
        _require_open(connection)

    async def _follow(self, connection: asyncpg.Connection) -> None:
        """Until the connection is lost, which raises."""
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT):
                    await self._stirred.wait()
            except TimeoutError:
                await connection.execute("SELECT 1", timeout=HEARTBEAT)
                continue
            self._stirred.clear()
            changes, self._pending = self._pending, Changes()
            _require_open(connection)
            await self._changed(changes)
            await asyncio.sleep(PAUSE)

    async def _poll(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            await asyncio.sleep(min(left, self._poll_every))
            if left < self._poll_every:
                return
            try:
                await self._changed(Changes(everything=True))
            except Exception as error:
                self._hears_not(said(error))
            else:
                if not self._listens:
                    self._hears("changes are followed again")

    def _on_notice(self, _connection: object, _process: int, _channel: str, notice: object) -> None:
        if notice == self._greeting:
            self._greeted.set()
            return
        self._pending.add(str(notice))
        self._stirred.set()

    def _on_end(self, _connection: object) -> None:
        """Whoever waits for a notice is woken."""
        self._greeted.set()
        self._stirred.set()

    def _hears(self, message: str) -> None:
        if self._trouble is not None:
            log.info(message)
        self._trouble = None

    def _hears_not(self, trouble: str) -> None:
        """Says it where it is new: what is remembered stays in force meanwhile."""
        if self._trouble != trouble:
            log.warning("changes by others are not heard of at once", reason=trouble)
        self._trouble = trouble


def _require_open(connection: asyncpg.Connection) -> None:
    if connection.is_closed():
        raise ConnectionResetError("the connection that listens for changes was closed")
