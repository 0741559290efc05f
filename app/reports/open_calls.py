"""Calls in flight, as the database has them: of all replicas. For metrics, so that it is asked rarely and never for long."""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Double, cast, func, select
from sqlalchemy.orm import InstrumentedAttribute

from app.database import Database
from app.errors import Unavailable
from app.models import BackgroundCall, CallHold

WITHIN = 1.0
"""Seconds that the database has to answer."""
KEPT = 5.0
"""Seconds for which an answer is good, or none."""


@dataclass(frozen=True, slots=True)
class Open:
    """`oldest`: seconds; those that go on in the background apart, as they take hours."""

    calls: int
    oldest: float
    background_calls: int
    oldest_background: float


class OpenCalls:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._asking = asyncio.Lock()
        self._asked_at = 0.0
        self._found: Open | None = None

    async def ask(self) -> Open | None:
        """None: the database doesn't answer."""
        async with self._asking:
            if not self._asked_at or time.monotonic() - self._asked_at > KEPT:
                self._found = await self._ask()
                self._asked_at = time.monotonic()
            return self._found

    async def _ask(self) -> Open | None:
        in_background = select(BackgroundCall.request_id).where(BackgroundCall.request_id == CallHold.request_id).exists()
        calls = select(func.count(), _oldest(CallHold.created_at)).where(~in_background)
        try:
            async with asyncio.timeout(WITHIN), self._database.reading() as session:
                return Open(
                    *(await session.execute(calls)).one(),
                    *(await session.execute(select(func.count(), _oldest(BackgroundCall.created_at)))).one(),
                )
        except (Unavailable, TimeoutError):
            return None


def _oldest(created_at: InstrumentedAttribute[Any]) -> ColumnElement[float]:
    age = func.extract("epoch", func.clock_timestamp() - func.min(created_at))
    return cast(func.greatest(func.coalesce(age, 0), 0), Double())
