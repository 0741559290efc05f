"""This process's lease in the database: while its row is there, nobody else ends the calls that it holds.

The lease is renewed three times before it runs out. A process whose row was deleted, as it was paused or cut off for too
long, has been declared dead: it goes on under a new id, and what became of its calls amends the rows that others wrote.
An outage of the database kills nobody: whoever comes back first waits for a whole lease before it declares anyone dead.
"""

import math
import os
import socket
import time
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import aliased
from uuid_utils.compat import uuid7

from app.database import Database
from app.models import Instance

log = structlog.get_logger(__name__)

RENEWALS = 3
"""In the time of a lease."""
LONGEST_GAP = 2 / 3
"""Of a lease: whoever was out of touch for longer may not have been alone in that."""


class Lease:
    """`seconds`: how long it lasts without renewal. `id` changes when the process was declared dead."""

    def __init__(self, database: Database, *, seconds: float) -> None:
        self.id: UUID = uuid7()
        self.seconds = seconds
        self._database = database
        self._is_taken = False
        self._until: datetime | None = None
        self._renewed_at = -math.inf
        self._unbroken_since = 0.0
        self._was_lost = False

    @property
    def is_unbroken(self) -> bool:
        """Whether nobody can have declared this process dead."""
        return not self._was_lost and time.monotonic() - self._renewed_at < self.seconds

    @property
    def may_bury(self) -> bool:
        """Whether this process has itself been in touch with the database, without a gap, for as long as a lease lasts."""
        now = time.monotonic()
        return self._is_taken and now - self._unbroken_since >= self.seconds and now - self._renewed_at < self.seconds

    async def renew(self) -> None:
        """Takes the lease, or makes it last longer."""
        asked_at = time.monotonic()
        if not self._is_taken or not await self._prolong():
            if self._is_taken:
                log.warning("this process was declared dead while it was paused or cut off", instance=str(self.id))
                self.id = uuid7()
                self._was_lost = True
            await self._take()
            self._is_taken = True
            self._renewed_at = -math.inf
        answered_at = time.monotonic()
        if answered_at - self._renewed_at > self.seconds * LONGEST_GAP:
            self._unbroken_since = answered_at
        self._renewed_at = asked_at

    async def give_up(self) -> None:
        """At the end, when nothing is held any more."""
        async with self._database.autocommit() as connection:
            await connection.execute(delete(Instance).where(Instance.id == self.id))

    async def bury(self) -> list[UUID]:
        """Declares dead whose lease has run out; nobody where this comes late after the renewal that it follows, or after the next
        one, as it may when the database hangs: then the others' renewals may be late as well."""
        own = aliased(Instance)
        in_time = select(own.id).where(own.id == self.id, own.lease_until == self._until, own.lease_until > self._end(LONGEST_GAP)).exists()
        overdue = delete(Instance).where(Instance.lease_until < func.clock_timestamp(), in_time).returning(Instance.id)
        async with self._database.autocommit() as connection:
            return list((await connection.execute(overdue)).scalars())

    async def _prolong(self) -> bool:
        renewal = update(Instance).where(Instance.id == self.id).values(lease_until=self._end()).returning(Instance.lease_until)
        async with self._database.autocommit() as connection:
            self._until = (await connection.execute(renewal)).scalar()
        return self._until is not None

    async def _take(self) -> None:
        lease = {"id": self.id, "host": socket.gethostname()[:255], "process_id": os.getpid(), "lease_until": self._end()}
        async with self._database.autocommit() as connection:
            taking = insert(Instance).values(lease).on_conflict_do_nothing().returning(Instance.lease_until)
            self._until = (await connection.execute(taking)).scalar()

    def _end(self, leases: float = 1) -> object:
        return func.clock_timestamp() + timedelta(seconds=self.seconds * leases)
