"""The outbox of notifications, and what in the database is worth one.

Whoever sees something puts it in; any process takes what is due, sends it, and says how that went. One that dies meanwhile leaves
it to the others, who send it when its turn has come again: what is told twice then has the same id.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import delete, distinct, func, insert, select, update

from app.database import Database
from app.models import Account, Notification, UsageHourly

MOST_AN_HOUR = 20
"""Subjects of one kind that are told in an hour: the names of models are the clients' own."""
LOW_BALANCE = "low_balance"
MOST_TRIES = 12
FIRST_PAUSE, LONGEST_PAUSE = 15, 3600
"""Seconds to the next try; each is twice the one before. All of them are 7 hours."""
KEPT_DAYS = 30


@dataclass(frozen=True, slots=True)
class Notice:
    """`kind`: for programs; `text`: for people."""

    kind: str
    subject: str
    text: str


@dataclass(frozen=True, slots=True)
class Due:
    id: int
    channel: str
    notice: Notice
    at: datetime


class Outbox:
    """`again`: seconds in which the same kind isn't told of the same subject a second time."""

    def __init__(self, database: Database, *, again: float) -> None:
        self._database = database
        self._again = again

    async def put(self, notice: Notice, channels: Collection[str]) -> bool:
        """Whether it is told: not what was told a while ago, by any process, nor more than enough of its kind."""
        now = func.clock_timestamp()
        same = Notification.kind == notice.kind
        told = select(Notification.id).where(
            same, Notification.subject == notice.subject, Notification.created_at > now - _span(self._again)
        )
        subjects = select(func.count(distinct(Notification.subject))).where(same, Notification.created_at > now - _span(3600))
        async with self._database.transaction() as session:
            await session.execute(select(func.pg_advisory_xact_lock(func.hashtext(f"notification {notice.kind}"))))
            if await session.scalar(told.limit(1)) is not None or (await session.scalar(subjects) or 0) >= MOST_AN_HOUR:
                return False
            values = {"kind": notice.kind, "subject": notice.subject, "text": notice.text}
            await session.execute(insert(Notification), [{"channel": channel, **values} for channel in channels])
        return True

    async def take_due(self, channels: Collection[str], *, most: int) -> Sequence[Due]:
        """They are taken again by others unless something is said of them until then."""
        due = (
            select(Notification.id)
            .where(Notification.sent_at.is_(None), Notification.tries < MOST_TRIES, Notification.channel.in_(channels))
            .where(Notification.next_try <= func.clock_timestamp())
            .order_by(Notification.next_try)
            .limit(most)
            .with_for_update(skip_locked=True)
        )
        pause = func.least(FIRST_PAUSE * func.power(2, Notification.tries), LONGEST_PAUSE)
        taken = (
            update(Notification)
            .where(Notification.id.in_(due.scalar_subquery()))
            .values(tries=Notification.tries + 1, next_try=func.clock_timestamp() + _span(pause))
            .returning(Notification)
        )
        async with self._database.transaction() as session:
            rows = sorted(await session.scalars(taken), key=lambda row: row.id)
            return [Due(row.id, row.channel, Notice(row.kind, row.subject, row.text), row.created_at) for row in rows]

    async def sent(self, notification_id: int) -> None:
        await self._mark(notification_id, sent_at=func.clock_timestamp(), error=None)

    async def failed(self, notification_id: int, error: str) -> None:
        await self._mark(notification_id, error=error)

    async def forget_old(self) -> None:
        async with self._database.transaction() as session:
            await session.execute(delete(Notification).where(Notification.created_at < func.now() - _span(KEPT_DAYS * 86_400)))

    async def low_balances(self, below: Decimal, *, most: int = MOST_AN_HOUR) -> list[tuple[str, Decimal]]:
        """Of users who have called within the last two hours: those who have less than that, and how much. Who was told of isn't
        again among them for a while, so that others are."""
        available = Account.credit + Account.credit_limit - Account.spent
        hour = func.date_trunc("hour", func.now() - _span(3600), "UTC")
        callers = select(UsageHourly.user_id).where(UsageHourly.hour >= hour)
        told = select(Notification.id).where(
            Notification.kind == LOW_BALANCE,
            Notification.subject == Account.user_id,
            Notification.created_at > func.clock_timestamp() - _span(self._again),
        )
        low = select(Account.user_id, available).where(Account.user_id.in_(callers), available < below, ~told.exists())
        query = low.order_by(available).limit(most)
        async with self._database.reading() as session:
            return [(user_id, left) for user_id, left in await session.execute(query)]

    async def _mark(self, notification_id: int, **values: object) -> None:
        async with self._database.transaction() as session:
            await session.execute(update(Notification).where(Notification.id == notification_id).values(values))


def _span(seconds: object) -> object:
    return func.make_interval(0, 0, 0, 0, 0, 0, seconds)
