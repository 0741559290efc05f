"""The ledger of one process: its parts, and what it does when the process ends.

hold         a call's ceiling, before it goes upstream
settlement   its end: hold, account, row and roll-up in one transaction
spool        where outcomes stand while the database is away
replay       the spools of processes that have ended
lease        the sign that this process lives
recovery     calls that nobody will end
"""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

import structlog

from app.database import Database, is_away
from app.ledger.ended import EndedCalls
from app.ledger.hold import Holds
from app.ledger.lease import Lease
from app.ledger.recovery import Recovery
from app.ledger.replay import Replay
from app.ledger.settlement import Settlement
from app.ledger.spool import Spool
from app.metrics import Metrics

log = structlog.get_logger(__name__)


class Ledger:
    """`lease`, `admit_wait` and `objects_age` are in seconds. `calls` tells of those that have ended."""

    def __init__(
        self,
        database: Database,
        *,
        spool: Spool,
        lease: float,
        admit_wait: float,
        time_zone: str,
        objects_age: float = 0,
        metrics: Metrics | None = None,
    ) -> None:
        metrics = metrics or Metrics()
        self.database = database
        self.spool = spool
        self.calls = EndedCalls()
        self.lease = Lease(database, seconds=lease)
        self.holds = Holds(database, self.lease, longest_wait=admit_wait, time_zone=time_zone, metrics=metrics)
        self.settlement = Settlement(
            database,
            spool,
            time_zone=time_zone,
            ended=self.holds.ended,
            is_sure=lambda: self.lease.is_unbroken,
            calls=self.calls,
            metrics=metrics,
        )
        self._recovery = Recovery(
            database, self.lease, self.holds, time_zone=time_zone, objects_age=objects_age, calls=self.calls, metrics=metrics
        )
        self.replay = Replay(spool, self.settlement)

    def work(self) -> dict[str, Coroutine[Any, Any, None]]:
        """What runs for as long as the process does, by name."""
        return {
            "holds": self.holds.run(),
            "settlement": self.settlement.run(),
            "spool": self.spool.run(),
            "recovery": self._recovery.run(),
            "replay": self.replay.run(),
        }

    async def finish(self, longest: float) -> None:
        """Settles what is left, for `longest` seconds at most; the rest goes to the spool, and is replayed at the next start.
        To be called while `work` runs."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0 if self.settlement.is_away else longest):
                await self.settlement.drained()
        if unsettled := self.settlement.unsettled:
            lost = await self.settlement.spool_rest()
            log.warning("stopped with calls unsettled; they are in the spool", calls=unsettled, lost=lost)
            return
        try:
            await self.lease.give_up()
        except Exception as error:
            if not is_away(error):
                raise
