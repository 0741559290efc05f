"""When there were calls that several filters match at once, by the sums of months.

The planner takes filters for independent of each other. Where a user never called a model that others call all the time, it
would look through all rows of the one for the other. The sums know that there is none, or that there was one last year.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import exists, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.models import ApiCallLog, UsagePeriod

DIMENSIONS = ("user_id", "api_key_id", "model_name", "upstream_id", "api", "status", "is_local")
"""What sums tell apart."""
_SELECTIVE = ("user_id", "model_name")
"""By which sums are found quickly."""
_MARGIN = timedelta(days=2)
"""Rows are dated in a zone of their own."""


class Window(NamedTuple):
    """Of `created_at`, as it is stored."""

    since: datetime
    until: datetime


NEVER = Window(datetime(9999, 1, 1), datetime(1970, 1, 1))
ALWAYS = None


async def window_of(session: AsyncSession, asked: Mapping[str, Any]) -> Window | None:
    """`asked`: values by name of the column. `ALWAYS`: the sums can't tell, or what is asked needs no help."""
    told = {name: value for name, value in asked.items() if name in DIMENSIONS}
    if len(told) < 2 or told.keys().isdisjoint(_SELECTIVE):
        return ALWAYS
    if (await session.execute(select(exists().where(ApiCallLog.request_id.is_(None))))).scalar_one():
        return ALWAYS  # rows of the platform's own are in no sum
    months = (await session.execute(select(func.min(UsagePeriod.start)).where(UsagePeriod.period == "month"))).scalar_one()
    if months is None:
        return NEVER
    conditions = [getattr(UsagePeriod, name) == value for name, value in told.items()]
    query = select(func.min(UsagePeriod.start), func.max(UsagePeriod.start)).where(
        UsagePeriod.period == "month", UsagePeriod.start.in_(_months_since(months)), UsagePeriod.shard == 0, *conditions
    )
    first, last = (await session.execute(query)).one()
    if first is None:
        return NEVER
    return Window(_stored(first) - _MARGIN, _stored(_next(last)) + _MARGIN)


def _months_since(first: datetime) -> list[datetime]:
    months, now = [first], datetime.now(UTC) + _MARGIN
    while (following := _next(months[-1])) <= now:
        months.append(following)
    return months


def _next(month: datetime) -> datetime:
    return (month + timedelta(days=32)).replace(day=1)


def _stored(moment: datetime) -> datetime:
    return moment.replace(tzinfo=None)
