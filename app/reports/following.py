"""New rows of the call log as they come: none missed, none told twice, whatever the order in which they are committed.

They are listed oldest first, each time from the last one on, as `/logs` lists them for whoever follows. So a row waits until
no earlier one can come any more (`horizon.py`); one that the platform dates back below what was told is not told.
"""

from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncSession

from app.reports.calls import EVERYTHING, Call, CallFilters, Order, PageAsked, cursor_after, list_calls

MOST_BEFORE = 500


@dataclass(slots=True)
class Following:
    """`zone`: of `created_at`, as `LOG_TIME_ZONE`."""

    filters: CallFilters
    zone: str
    _cursor: str | None = field(default=None, init=False)

    async def begin(self, session: AsyncSession, *, last: int) -> list[Call]:
        """The `last` rows (1 to `MOST_BEFORE`), oldest first."""
        newest = await list_calls(session, self._asked("newest"))
        if newest.next_cursor is not None:
            self._cursor = cursor_after(newest.rows[-1], "oldest")
        return (await self.look(session))[-last:]

    async def look(self, session: AsyncSession) -> list[Call]:
        """What has come since the last look. The session must not be one of a single snapshot."""
        found: list[Call] = []
        while True:
            page = await list_calls(session, self._asked("oldest"))
            found += page.rows
            if page.rows:
                self._cursor = cursor_after(page.rows[-1], "oldest")
            if page.next_cursor is None:
                return found

    def _asked(self, order: Order) -> PageAsked:
        cursor = self._cursor if order == "oldest" else None
        return PageAsked(visibility=EVERYTHING, filters=self.filters, zone=self.zone, limit=MOST_BEFORE + 1, cursor=cursor, order=order)
