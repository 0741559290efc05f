"""A user's statement of a month: what there was, what came in, what was used, and what is left, to the last digit.

    opening balance + credits + refunds - bills = closing balance

A balance is `credit - billed`, as the account keeps it. It is reckoned back from what the account has now, so that a chain of
months always meets the account; the audit proves that entries, rows and roll-ups are what the account says. All is read in
one snapshot. Usage is of the roll-ups, which are exact at whole hours of UTC; where a month begins or ends within one, as
in zones that are half an hour off, the rest is of the rows, archived ones too. A call counts where its row stands: the late truth of an
orphaned call changes the month in which it was orphaned.

Books outlive people: of someone new who has the id of a user that was purged, it knows what came since the account was opened.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Select, Subquery, func, literal, select, union_all
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import NotFound
from app.models import Account, ApiCallLog, ArchivedUsage, CreditEntry, PlatformApiKey, UsageHourly, User

NOTHING = Decimal("0.0000")
_HOUR = timedelta(hours=1)
_ZONES_APART = timedelta(hours=27)
"""More than `created_at`, which is of some zone or other, can be off."""
TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
_MEASURES = ("calls", *TOKENS, "charge", "bill", "write_off")


@dataclass(frozen=True, slots=True)
class UsageLine:
    """What one key has used of one model. `api_key_id` None: of a key that was deleted, or none. `charge` is exact, `bill` what
    the balance falls by, `write_off` what nobody pays."""

    model_name: str
    api_key_id: int | None
    api_key_name: str | None
    calls: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    charge: Decimal
    bill: Decimal
    write_off: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """`start` is inclusive, `end` exclusive. `made_at`: the database's clock; before `end`, the month isn't over."""

    user_id: str
    month: str
    time_zone: str
    start: datetime
    end: datetime
    made_at: datetime
    opening_balance: Decimal
    credits: Sequence[CreditEntry]
    refunds: Sequence[CreditEntry]
    usage: Sequence[UsageLine]

    @property
    def credited(self) -> Decimal:
        return sum((entry.amount for entry in self.credits), NOTHING)

    @property
    def refunded(self) -> Decimal:
        return sum((entry.amount for entry in self.refunds), NOTHING)

    @property
    def billed(self) -> Decimal:
        return sum((line.bill for line in self.usage), NOTHING)

    @property
    def charged(self) -> Decimal:
        return sum((line.charge for line in self.usage), Decimal("0.0000000000"))

    @property
    def written_off(self) -> Decimal:
        return sum((line.write_off for line in self.usage), Decimal("0.0000000000"))

    @property
    def closing_balance(self) -> Decimal:
        return self.opening_balance + self.credited + self.refunded - self.billed


def bounds(month: str, time_zone: str) -> tuple[datetime, datetime]:
    """The instants, in UTC, at which the month `YYYY-MM` and the next begin in the zone."""
    year, number = map(int, month.split("-"))
    zone = ZoneInfo(time_zone)
    first, next_first = datetime(year, number, 1, tzinfo=zone), datetime(year + number // 12, number % 12 + 1, 1, tzinfo=zone)
    return first.astimezone(UTC), next_first.astimezone(UTC)


async def statement_of(session: AsyncSession, *, user_id: str, month: str, time_zone: str) -> Statement:
    """Raises `NotFound` for a user who isn't there. The session must not have been used yet."""
    await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
    if await session.get(User, user_id) is None:
        raise NotFound(f"There is no user {user_id!r}.", code="user_not_found")
    start, end = bounds(month, time_zone)
    now = (await session.execute(select(func.now()))).scalar_one()
    opening, entries, usage = NOTHING, [], []
    if (account := await session.get(Account, user_id)) is not None:
        since = max(start, _hour_of(account.created_at))
        entries = await _entries(session, user_id=user_id, since=max(start, account.created_at))
        opening = account.credit - sum((entry.amount for entry in entries), NOTHING)
        opening -= account.billed - await _billed(session, user_id=user_id, since=since)
        entries = [entry for entry in entries if entry.created_at < end]
        usage = await _usage(session, user_id=user_id, start=since, end=end) if since < end else []
    return Statement(
        user_id=user_id,
        month=month,
        time_zone=time_zone,
        start=start,
        end=end,
        made_at=now,
        opening_balance=opening,
        credits=[entry for entry in entries if entry.request_id is None],
        refunds=[entry for entry in entries if entry.request_id is not None],
        usage=usage,
    )


async def _entries(session: AsyncSession, *, user_id: str, since: datetime) -> list[CreditEntry]:
    query = select(CreditEntry).where(CreditEntry.user_id == user_id, CreditEntry.created_at >= since).order_by(CreditEntry.id)
    return list((await session.scalars(query)).all())


async def _billed(session: AsyncSession, *, user_id: str, since: datetime) -> Decimal:
    used = _used(user_id, since, None)
    return Decimal((await session.execute(select(func.coalesce(func.sum(used.c.bill), NOTHING)))).scalar_one())


async def _usage(session: AsyncSession, *, user_id: str, start: datetime, end: datetime) -> list[UsageLine]:
    """By model and key, without what an orphan that was amended has left at zero."""
    used = _used(user_id, start, end)
    sums = [func.sum(used.c[name]).label(name) for name in _MEASURES]
    of_key = func.nullif(used.c.api_key_id, 0)
    query = (
        select(used.c.model_name, of_key, PlatformApiKey.name, *sums)
        .outerjoin(PlatformApiKey, PlatformApiKey.id == used.c.api_key_id)
        .group_by(used.c.model_name, used.c.api_key_id, PlatformApiKey.name)
        .having(func.sum(used.c.calls) != 0)
        .order_by(used.c.model_name, used.c.api_key_id)
    )
    return [UsageLine(*row[:3], *map(int, row[3:-3]), *row[-3:]) for row in (await session.execute(query)).all()]


def _used(user_id: str, start: datetime, end: datetime | None) -> Subquery:
    """All that was used from `start` until before `end`, in pieces: whole hours, and the rows of the hours that aren't whole."""
    first, last = -(-(start - _EPOCH) // _HOUR) * _HOUR + _EPOCH, None if end is None else _hour_of(end)
    pieces = [_of_hours(user_id, first, last)]
    if start < first:
        pieces += [_of_rows(user_id, start, first), _of_archived(user_id, start, first)]
    if end is not None and last is not None and last < end:
        pieces += [_of_rows(user_id, last, end), _of_archived(user_id, last, end)]
    return union_all(*pieces).subquery()


def _of_hours(user_id: str, first: datetime, last: datetime | None) -> Select[Any]:
    query = select(UsageHourly.model_name, UsageHourly.api_key_id, *(getattr(UsageHourly, name) for name in _MEASURES))
    query = query.where(UsageHourly.user_id == user_id, UsageHourly.hour >= first)
    return query if last is None else query.where(UsageHourly.hour < last)


def _of_rows(user_id: str, start: datetime, end: datetime) -> Select[Any]:
    """`created_at` has the index, `settled_at` is right."""
    measures = (func.coalesce(getattr(ApiCallLog, name), 0).label(name) for name in _MEASURES[1:])
    return select(
        ApiCallLog.model_name, func.coalesce(ApiCallLog.api_key_id, 0).label("api_key_id"), literal(1).label("calls"), *measures
    ).where(
        ApiCallLog.user_id == user_id,
        ApiCallLog.request_id.is_not(None),
        ApiCallLog.settled_at >= start,
        ApiCallLog.settled_at < end,
        ApiCallLog.created_at.between(_naive(start - _ZONES_APART), _naive(end + _ZONES_APART)),
    )


def _of_archived(user_id: str, start: datetime, end: datetime) -> Select[Any]:
    """Rows that were archived are kept by the quarter of an hour where a month may begin."""
    query = select(ArchivedUsage.model_name, ArchivedUsage.api_key_id, *(getattr(ArchivedUsage, name) for name in _MEASURES))
    return query.where(ArchivedUsage.user_id == user_id, ArchivedUsage.bucket >= start, ArchivedUsage.bucket < end)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _hour_of(moment: datetime) -> datetime:
    return (moment - _EPOCH) // _HOUR * _HOUR + _EPOCH


def _naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)
