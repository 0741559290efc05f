"""Recovery: what a process does, at each renewal of its lease, about calls that nobody will end.

    its own holds that no call of it owns       the answer to their reservation was lost, so the call was never let through:
                                                they are voided, and leave no row
    holds of the dead                           end as rows that cost nothing and say `orphaned`

Who made what providers keep no more is forgotten there, too. Whatever goes wrong here is logged and tried again at the next
renewal.
"""

import asyncio
import time

import structlog
from sqlalchemy import Integer, func, select
from sqlalchemy.sql import bindparam

from app.database import LOCK_WAIT, SCHEMA, Database, is_away, is_locked
from app.ledger.ended import Ended, EndedCalls, facts_of_row
from app.ledger.hold import Holds
from app.ledger.jitter import jittered
from app.ledger.lease import RENEWALS, Lease
from app.ledger.objects import forget_old
from app.ledger.outcome import Outcome
from app.ledger.rows import rows_of
from app.metrics import Metrics
from app.models import ApiCallLog, CallHold

log = structlog.get_logger(__name__)

MOST = 200
"""Holds that are ended in one transaction."""
MOST_PURGED = 5000
"""Objects that are forgotten at one renewal: 43 million a day, with the usual lease."""


class Recovery:
    """`objects_age`: seconds after which nobody keeps what was made; 0: it is remembered for ever."""

    def __init__(
        self, database: Database, lease: Lease, holds: Holds, *, time_zone: str, objects_age: float, calls: EndedCalls, metrics: Metrics
    ) -> None:
        self._database = database
        self._lease = lease
        self._holds = holds
        self._objects_age = objects_age
        self._calls = calls
        self._metrics = metrics
        reaped = getattr(func, SCHEMA).reap(bindparam("most", type_=Integer()), bindparam("patience", type_=Integer()), time_zone)
        self._reaping = rows_of(reaped, time_zone=time_zone).returning(ApiCallLog.request_id, ApiCallLog.user_id, facts_of_row())

    async def run(self) -> None:
        """Until cancelled."""
        is_failing = False
        while True:
            try:
                await self._round()
                if is_failing:
                    log.info("recovery works again")
                is_failing = False
            except Exception as error:
                if not is_away(error):
                    log.exception("recovery failed, and is tried again")
                elif not is_failing:
                    log.warning("recovery waits for the database", error=type(error).__name__)
                is_failing = True
            await self._pause()

    async def _round(self) -> None:
        await self._lease.renew()
        await self._void_unowned()
        if self._lease.may_bury:
            for instance in await self._lease.bury():
                log.warning("a process is dead: its lease has run out", instance=str(instance))
            await self._reap()
        if self._objects_age and (purged := await forget_old(self._database, age=self._objects_age, most=MOST_PURGED)):
            log.info("forgot who made what providers keep no more", objects=purged)

    async def _pause(self) -> None:
        """Until the next renewal is due, or a reservation was refused for want of a lease."""
        due = jittered(self._lease.seconds / RENEWALS, least=0.8)
        try:
            await asyncio.wait_for(self._holds.lease_lost.wait(), due)
        except TimeoutError:
            return
        self._holds.lease_lost.clear()
        await asyncio.sleep(0.05)  # not more often, if the database goes on refusing

    async def _void_unowned(self) -> None:
        """The holds are looked up first: one that is made after that is owned by then. And again: one that goes on in the background
        is no longer this process's by the time that it isn't owned."""
        query = select(CallHold.request_id).where(CallHold.instance_id == self._lease.id)
        async with self._database.autocommit() as connection:
            held = (await connection.execute(query)).scalars().all()
            unowned = [request_id for request_id in held if not self._holds.owns(request_id)]
            if unowned:
                unowned = list((await connection.execute(query.where(CallHold.request_id.in_(unowned)))).scalars())
            if not unowned:
                return
            voided = (await connection.execute(select(getattr(func, SCHEMA).void(unowned, LOCK_WAIT)))).scalar_one()
        self._metrics.voided.add(amount=voided)
        log.warning("voided holds whose reservation was never answered", holds=voided)

    async def _reap(self) -> None:
        """As many as fit before the next renewal."""
        until = time.monotonic() + self._lease.seconds / RENEWALS / 2
        while time.monotonic() < until:
            try:
                async with self._database.autocommit() as connection:
                    ended = (await connection.execute(self._reaping, {"most": MOST, "patience": LOCK_WAIT})).all()
            except Exception as error:
                if not is_locked(error):
                    raise
                return
            if not ended:
                return
            self._metrics.orphans.add(amount=len(ended))
            self._calls.add([Ended(Outcome(request_id, user_id, facts.encode())) for request_id, user_id, facts in ended if request_id])
            log.warning("ended calls of dead processes as orphaned", calls=len(ended), request_ids=[str(one[0]) for one in ended[:10]])
