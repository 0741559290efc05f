"""Settlement: the end of a call, in one statement that frees its hold, charges its account and inserts its row.

Settling is idempotent by `request_id`. While the database is away, batches are tried again until it is back, and those who
wait for a row are told when it stands in the spool instead. An outcome that the database rejects is settled with what
can't be wrong of it.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import ARRAY, Integer, Text, Uuid, cast, func, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql import bindparam

from app.database import LOCK_WAIT, SCHEMA, Database, is_away, is_locked, said
from app.ledger.ended import Ended, EndedCalls
from app.ledger.group_commit import GroupCommit
from app.ledger.jitter import jittered
from app.ledger.outcome import Outcome
from app.ledger.rows import rows_of
from app.ledger.spool import Spool, SpoolFailed
from app.metrics import Metrics
from app.models import ApiCallLog

log = structlog.get_logger(__name__)

SPOOL_WAIT = 10.0
"""Seconds for which a last byte waits for the spool: as long as disks of busy machines stall."""
LONGEST_PAUSE = 2.0
"""Seconds between two tries while the database is away."""
_STEP = ("settle",)


class Settlement:
    """`ended` is called with each call whose row is committed. `is_sure`: whether nobody else may have ended calls of this process.
    `calls` gets all whose rows came to be here."""

    def __init__(
        self,
        database: Database,
        spool: Spool,
        *,
        time_zone: str,
        ended: Callable[[UUID], None],
        is_sure: Callable[[], bool],
        calls: EndedCalls,
        metrics: Metrics,
    ) -> None:
        self._database = database
        self._spool = spool
        self._ended = ended
        self._is_sure = is_sure
        self._calls = calls
        self._metrics = metrics
        batch = cast(bindparam("batch", type_=Text()), JSONB())
        settled = getattr(func, SCHEMA).settle(batch, bindparam("patience", type_=Integer()), time_zone)
        rows = rows_of(settled, time_zone=time_zone)
        told = (ApiCallLog.request_id, ApiCallLog.charge, ApiCallLog.write_off, ApiCallLog.amended_at.is_(None))
        self._counting, self._telling = database.written(rows), database.written(rows.returning(*told))
        there = select(ApiCallLog.request_id).where(ApiCallLog.request_id == func.any(bindparam("request_ids", type_=ARRAY(Uuid()))))
        self._looking_up = database.written(there)
        self._group: GroupCommit[Outcome, None] = GroupCommit(self._settle, lane_of=lambda outcome: outcome.user_id)
        self._unsettled: dict[UUID, Outcome] = {}
        self._spooled: set[UUID] = set()
        self._is_away = False
        self.run = self._group.run
        self.drained = self._group.drained

    def submit(self, outcome: Outcome) -> asyncio.Future[None]:
        """For a call that was held. The future is done when the row is committed; the outcome is on its way also if nobody
        waits."""
        self._unsettled[outcome.request_id] = outcome
        return self._group.submit(outcome)

    def submit_refusal(self, outcome: Outcome) -> asyncio.Future[None] | None:
        """For a call that was never held. While the database is away there is no row of it: refusals come in floods, and
        would fill memory and disk."""
        return None if self._is_away else self._group.submit(outcome)

    async def secure(self, outcome: Outcome, committed: asyncio.Future[None], *, wait: float) -> None:
        """Returns when the row is committed, or else when the outcome is in the spool: after `wait` seconds, at once where the
        database is away, or where no row of it could be stored. Where both fail, the client is kept no longer: the call
        waits in memory, and is logged."""
        if not self._is_away:
            await asyncio.wait({committed}, timeout=wait)
        if _is_settled(committed):
            return
        self._spooled.add(outcome.request_id)
        try:
            async with asyncio.timeout(SPOOL_WAIT):
                await self._spool.append(outcome.request_id, outcome.entry)
        except (SpoolFailed, TimeoutError) as failed:
            if not _is_settled(committed):
                reason = str(failed) or "the spool is slow"
                self._metrics.unsecured.add()
                log.error("a last byte leaves before its row", request_id=str(outcome.request_id), reason=reason)

    async def spool_rest(self) -> int:
        """Writes what is unsettled to the spool, at the end of the process; returns what could not even be spooled."""
        rest = list(self._unsettled.values())
        done = await asyncio.gather(*(self._spool.append(one.request_id, one.entry) for one in rest), return_exceptions=True)
        lost = [outcome for outcome, result in zip(rest, done, strict=True) if result is not None]
        for outcome in lost:
            log.error("a call's outcome could be stored nowhere", entry=outcome.entry.decode("utf-8", "replace"))
        return len(lost)

    @property
    def unsettled(self) -> int:
        """Calls of which no row is committed yet: those on their way, and those that the database has rejected."""
        return len(self._unsettled)

    @property
    def is_away(self) -> bool:
        """Whether the database was away when it was last tried."""
        return self._is_away

    async def _settle(self, outcomes: Sequence[Outcome]) -> Sequence[None]:
        pause = 0.05
        while True:
            try:
                ended = await self._commit(outcomes)
                break
            except Exception as error:
                if is_locked(error):
                    raise
                if not is_away(error):
                    if len(outcomes) > 1:
                        raise
                    ended = await self._settle_reduced(outcomes[0], error)
                    break
                if not self._is_away:
                    log.warning("settlement waits for the database", calls=self._group.open, error=said(error))
                self._is_away = True
                await asyncio.sleep(jittered(pause))
                pause = min(pause * 2, LONGEST_PAUSE)
        for outcome in outcomes:
            self._unsettled.pop(outcome.request_id, None)
            self._ended(outcome.request_id)
        self._spool.settled(outcome.request_id for outcome in outcomes)
        self._calls.add(ended)
        return [None] * len(outcomes)

    async def _commit(self, outcomes: Sequence[Outcome]) -> list[Ended]:
        """Returns those whose rows came to be. What the database charged is asked only where it may not be the cost: each row
        that is returned costs as much again as the rest of it."""
        values: dict[str, Any] = {"batch": (b"[" + b",".join(outcome.entry for outcome in outcomes) + b"]").decode(), "patience": LOCK_WAIT}
        is_plain = self._is_sure() and all(outcome.carried is not None and outcome.carried.is_plain for outcome in outcomes)
        started = time.monotonic()
        if is_plain:
            count = await self._database.count(self._counting, values)
            committed_at = time.monotonic()
            ended = [Ended(outcome, committed_at=committed_at) for outcome in outcomes]
            if count != len(outcomes):
                ended = await self._those_there(outcomes)
        else:
            ended = _as_told(outcomes, await self._database.rows(self._telling, values))
            committed_at = time.monotonic()
        self._metrics.commit.observe(committed_at - started, _STEP)
        self._metrics.batch_size.observe(len(outcomes), _STEP)
        if self._is_away:
            log.info("the database is back", calls=self._group.open)
        self._is_away = False
        if self._spooled:
            ended = [one._replace(committed_at=None) if one.outcome.request_id in self._spooled else one for one in ended]
            self._spooled.difference_update(outcome.request_id for outcome in outcomes)
        return ended

    async def _those_there(self, outcomes: Sequence[Outcome]) -> list[Ended]:
        """Somebody is gone, and the rows with them."""
        found = await self._database.rows(self._looking_up, {"request_ids": [outcome.request_id for outcome in outcomes]})
        known = {request_id for (request_id,) in found}
        return [Ended(outcome) for outcome in outcomes if outcome.request_id in known]

    async def _settle_reduced(self, outcome: Outcome, rejected: Exception) -> list[Ended]:
        """Raises what is wrong with an entry that can't be stored even so; its hold stays."""
        why = said(rejected)
        log.error("a row is stored without what the database rejects", request_id=str(outcome.request_id), error=why)
        try:
            return await self._commit([outcome.reduced(why)])
        except Exception as error:
            if not is_away(error) and not is_locked(error):
                log.error("a call could not be settled", request_id=str(outcome.request_id), error=said(error))
            raise


def _as_told(outcomes: Sequence[Outcome], rows: Iterable[Iterable[Any]]) -> list[Ended]:
    by_id = {outcome.request_id: outcome for outcome in outcomes}
    return [Ended(by_id[request_id], charge, write_off, is_new) for request_id, charge, write_off, is_new in rows]


def _is_settled(committed: asyncio.Future[None]) -> bool:
    return committed.done() and committed.exception() is None
