"""Calls that go on at an upstream in the background, as the ledger keeps them: see `functions/defer.sql`.

They belong to no process. Whoever takes one that is due puts its next look off, so that nobody else asks meanwhile; two
who ask at once settle it once.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update

from app.database import Database
from app.models import BackgroundCall

LONGEST_PAUSE = 30
"""Seconds between two looks at a call; the first follow each other faster."""


@dataclass(frozen=True, slots=True)
class PendingCall:
    """`entry` and `terms` as they were deferred. `looks`: how often it was looked at, this time included."""

    request_id: UUID
    user_id: str
    upstream_id: int
    object_id: str
    entry: dict[str, Any]
    terms: dict[str, Any]
    looks: int
    created_at: datetime

    @classmethod
    def of(cls, row: BackgroundCall) -> "PendingCall":
        return cls(row.request_id, row.user_id, row.upstream_id, row.object_id, row.entry, row.terms, row.looks, row.created_at)


class BackgroundCalls:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def take_due(self, *, most: int) -> list[PendingCall]:
        """Those that nobody else has taken, the longest due first."""
        due = (
            select(BackgroundCall.request_id)
            .where(BackgroundCall.next_look <= func.clock_timestamp())
            .order_by(BackgroundCall.next_look)
            .limit(most)
            .with_for_update(skip_locked=True)
        )
        pause = func.least(LONGEST_PAUSE, func.power(1.5, func.least(BackgroundCall.looks, LONGEST_PAUSE)))
        taken = (
            update(BackgroundCall)
            .where(BackgroundCall.request_id.in_(due.scalar_subquery()))
            .values(looks=BackgroundCall.looks + 1, next_look=func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, pause))
            .returning(BackgroundCall)
        )
        async with self._database.transaction() as session:
            return [PendingCall.of(row) for row in await session.scalars(taken)]
