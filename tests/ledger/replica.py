"""One proxy's ledger as the proxy runs it, on an event loop of its own: its engine, its holds, its settlement."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import ExceptionContext, event

from app.database import Database, Written, is_locked
from app.ledger.hold import Decision
from app.ledger.ledger import Ledger
from app.ledger.spool import Spool
from tests.harness.background import Background
from tests.ledger.calls import Call

T = TypeVar("T")


class Replica:
    """`database`, `holds` and `settlement` are used on the replica's loop, by what `run` is given.

    `errors`: all that the database raised, also what a second try mended, such as a deadlock; but for locks that could not
    be had in time, which a busy machine may bring. `lease`: seconds. `spool`:
    a directory of its own, if none is given.
    """

    def __init__(
        self, url: str, *, lease: float = 30.0, admit_wait: float = 10.0, spool: Path | None = None, objects_age: float = 0
    ) -> None:
        self._loop = Background()
        self._place = tempfile.TemporaryDirectory(prefix="proxy-spool-")
        self.database = Database(url, pool_size=6, application_name="tests-ledger")
        self.errors: list[str] = []
        event.listen(self.database.engine.sync_engine, "handle_error", self._note_context)
        for name in ("rows", "count"):
            setattr(self.database, name, self._noting(getattr(self.database, name)))
        self._spool = spool or Path(self._place.name) / "spool"
        self.ledger = self.run(self._make(lease, admit_wait, objects_age))
        self.holds, self.settlement, self.spool = self.ledger.holds, self.ledger.settlement, self.ledger.spool
        self._tasks = self.run(self._start())

    def _note_context(self, context: ExceptionContext) -> None:
        self._note(context.sqlalchemy_exception or context.original_exception)

    def _note(self, error: BaseException) -> None:
        if not is_locked(error):
            self.errors.append(str(error))

    def _noting(self, execute: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def run(statement: Written, values: Mapping[str, Any]) -> Any:
            try:
                return await execute(statement, values)
            except Exception as error:
                self._note(error)
                raise

        return run

    def run(self, work: Coroutine[Any, Any, T], *, within: float = 60.0) -> T:
        return self._loop.run(work, within=within)

    async def reserving(self, calls: Iterable[Call]) -> list[Decision]:
        """All at once, so that they share batches; raises what any of them raises."""
        return await asyncio.gather(*(self.holds.reserve(call.hold()) for call in calls))

    async def settling(self, calls: Iterable[Call]) -> list[BaseException | None]:
        """All at once; what could not be settled stands as its error in its place."""
        return await asyncio.gather(*(self.settlement.submit(call.outcome()) for call in calls), return_exceptions=True)

    def reserve(self, *calls: Call) -> list[Decision]:
        return self.run(self.reserving(calls))

    def outcomes(self, *calls: Call) -> list[str]:
        return [decision.outcome for decision in self.reserve(*calls)]

    def hold(self, *calls: Call) -> None:
        """Reserves what must be granted."""
        assert self.outcomes(*calls) == ["granted"] * len(calls)

    def settle(self, *calls: Call) -> None:
        """Settles what must not fail."""
        assert self.run(self.settling(calls)) == [None] * len(calls)

    def close(self) -> None:
        self.run(self._stop())
        self._loop.close()

    async def _make(self, lease: float, admit_wait: float, objects_age: float) -> Ledger:
        spool = Spool(self._spool, largest=64 * 1024 * 1024)
        return Ledger(self.database, spool=spool, lease=lease, admit_wait=admit_wait, time_zone="UTC", objects_age=objects_age)

    async def _start(self) -> Sequence[asyncio.Task[None]]:
        await self.ledger.lease.renew()
        return [asyncio.create_task(part) for part in self.ledger.work().values()]

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        endings = await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.spool.close()
        await self.database.close()
        self._place.cleanup()
        assert all(isinstance(ending, asyncio.CancelledError) for ending in endings), endings


@contextmanager
def replicas(url: str, number: int) -> Iterator[list[Replica]]:
    """Several proxies on one database, each on its own event loop and thread."""
    started = [Replica(url) for _ in range(number)]
    try:
        yield started
    finally:
        for replica in started:
            replica.close()


def at_once(started: list[Replica], work: Callable[[Replica], None]) -> None:
    """The same work on every replica, each in its own thread; raises what any of them raises."""
    with ThreadPoolExecutor(len(started)) as threads:
        list(threads.map(work, started))
