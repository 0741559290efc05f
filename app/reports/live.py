"""What happens right now: of the last minute, and in flight."""

from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.models import ApiCallLog, CallHold
from app.reports.calls import CallFilters, Visibility, matching

_MOST_A_MINUTE = 1_000_000


async def live(session: AsyncSession, *, visibility: Visibility) -> dict[str, int]:
    """Of the last minute, by the rows; and the calls in flight."""
    ended = select(
        func.count().label("calls_per_minute"),
        func.count().filter(ApiCallLog.status == "failed").label("failures_per_minute"),
        func.coalesce(func.sum(ApiCallLog.input_tokens + ApiCallLog.output_tokens), 0).label("tokens_per_minute"),
    ).where(
        *matching(visibility, CallFilters(), "UTC"),
        ApiCallLog.id > func.coalesce(select(func.max(ApiCallLog.id)).scalar_subquery() - _MOST_A_MINUTE, 0),
        ApiCallLog.settled_at > func.now() - timedelta(minutes=1),
    )
    flying = select(func.count()).select_from(CallHold)
    if visibility.user_id is not None:
        flying = flying.where(CallHold.user_id == visibility.user_id)
    if visibility.key_id is not None:
        flying = flying.where(CallHold.api_key_id == visibility.key_id)
    row = (await session.execute(ended.add_columns(flying.scalar_subquery().label("in_flight")))).mappings().one()
    return {name: int(value) for name, value in row.items()}
