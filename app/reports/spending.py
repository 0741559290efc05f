"""What was spent: in a stretch of time, from the sums by hour, exact at whole hours (UTC); and on one call."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.models import ApiCallLog, UsageHourly


async def charged_between(session: AsyncSession, *, user_id: str, key_id: int | None, start: datetime, end: datetime) -> Decimal:
    """From `start` until before `end`. `key_id` None: with all keys of the user."""
    query = select(func.coalesce(func.sum(UsageHourly.charge), 0)).where(
        UsageHourly.user_id == user_id, UsageHourly.hour >= start, UsageHourly.hour < end
    )
    if key_id is not None:
        query = query.where(UsageHourly.api_key_id == key_id)
    return Decimal((await session.execute(query)).scalar_one())


async def charge_of(session: AsyncSession, *, request_id: UUID) -> Decimal | None:
    """None where the call has no row yet."""
    return (await session.execute(select(ApiCallLog.charge).where(ApiCallLog.request_id == request_id))).scalar_one_or_none()
