"""New rows of the call log as they come: none missed, none told twice.

Ids are not the order in which rows are committed: a row may appear below one that was there before. So all rows above a low
mark are looked at each time, and those that were told already are left out. The mark follows once nobody can commit below
it any more: when all transactions that ran at an earlier look are over (`pg_snapshot_xmin`).
"""

from collections import deque
from dataclasses import dataclass, field

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.models import ApiCallLog
from app.reports.calls import EVERYTHING, Call, CallFilters, list_calls

PAGE = 500
_SNAPSHOT = text("SELECT pg_snapshot_xmin(now)::text::bigint, pg_snapshot_xmax(now)::text::bigint FROM pg_current_snapshot() AS now")


@dataclass(slots=True)
class Tail:
    """`zone`: of `created_at`, as `LOG_TIME_ZONE`."""

    filters: CallFilters
    zone: str
    _mark: int = 0
    _told: set[int] = field(default_factory=set)
    _looks: deque[tuple[int, int]] = field(default_factory=deque)

    async def begin(self, session: AsyncSession, *, last: int) -> list[Call]:
        """The `last` rows (1 to 500), oldest first. What is committed from here on is new."""
        page = await list_calls(session, visibility=EVERYTHING, filters=self.filters, zone=self.zone, limit=PAGE, cursor=None)
        self._mark = page.rows[-1]["id"] - 1 if page.next_cursor else 0
        self._told = {row["id"] for row in page.rows}
        return page.rows[:last][::-1]

    async def look(self, session: AsyncSession) -> list[Call]:
        """What was committed since the last look, by id. Each look in a transaction of its own."""
        oldest, newest = (await session.execute(_SNAPSHOT)).one()
        highest = (await session.execute(select(func.max(ApiCallLog.id)))).scalar_one_or_none() or 0
        found = [row for row in await self._above(session) if row["id"] not in self._told]
        self._told.update(row["id"] for row in found)
        while self._looks and self._looks[0][0] <= oldest:
            self._mark = max(self._mark, self._looks.popleft()[1])
        self._looks.append((newest, highest))
        self._told = {told for told in self._told if told > self._mark}
        return sorted(found, key=lambda row: row["id"])

    async def _above(self, session: AsyncSession) -> list[Call]:
        rows: list[Call] = []
        cursor = None
        while True:
            page = await list_calls(session, visibility=EVERYTHING, filters=self.filters, zone=self.zone, limit=PAGE, cursor=cursor)
            rows += [row for row in page.rows if row["id"] > self._mark]
            cursor = page.next_cursor
            if cursor is None or page.rows[-1]["id"] <= self._mark:
                return rows
