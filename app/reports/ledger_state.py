"""What the ledger has under way, and whose money ends soon: for those who watch over it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import Select, func, literal, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.models import Account, CallHold, Instance, UsageHourly

USE_OF = timedelta(days=7)
"""Over which a user's daily use is reckoned."""
SOON = 3
"""Days that what is available would last."""
MOST = 20


@dataclass(frozen=True, slots=True)
class LowBalance:
    """`daily`: the mean charge of a day. `days`: for how many what is available lasts at that."""

    user_id: str
    available: Decimal
    daily: Decimal
    days: float


@dataclass(frozen=True, slots=True)
class LedgerState:
    """`oldest`: when the call began that is in flight for longest. `processes`: with a living lease. `low`: those first who have least."""

    in_flight: int
    held: Decimal
    oldest: datetime | None
    processes: int
    low: list[LowBalance]


async def ledger_state(session: AsyncSession) -> LedgerState:
    holds = select(func.count(), func.coalesce(func.sum(CallHold.amount), Decimal(0)), func.min(CallHold.created_at))
    in_flight, held, oldest = (await session.execute(holds)).one()
    living = select(func.count()).select_from(Instance).where(Instance.lease_until > func.clock_timestamp())
    processes = (await session.execute(living)).scalar_one()
    low = [LowBalance(*row) for row in (await session.execute(_low())).all()]
    return LedgerState(in_flight, held, oldest, processes, low)


def _low() -> Select[str, Decimal, Decimal, float]:
    """Of those who call: who has nothing and calls no more needs no warning."""
    used = (
        select(UsageHourly.user_id, (func.sum(UsageHourly.charge) / USE_OF.days).label("daily"))
        .where(UsageHourly.hour >= func.now() - literal(USE_OF))
        .group_by(UsageHourly.user_id)
        .having(func.sum(UsageHourly.charge) > 0)
        .subquery()
    )
    available = Account.credit + Account.credit_limit - Account.spent - Account.held
    days = (available / used.c.daily).label("days")
    return (
        select(Account.user_id, available, func.round(used.c.daily, 10), days)
        .join(used, used.c.user_id == Account.user_id)
        .where(Account.disabled_at.is_(None), available < used.c.daily * SOON)
        .order_by(days, Account.user_id)
        .limit(MOST)
    )
