"""The proof of the books: rows, holds and entries are summed up anew and compared with what the ledger keeps of them.

All is read in one REPEATABLE READ snapshot on a connection of its own, without time limits. It locks nothing that a call
waits for, and finds no difference in a ledger that is merely busy; but as long as it lasts, vacuum keeps what it sees.
The call log is read in the order of its ids, a chunk at a time. A database that is away or not migrated raises what
SQLAlchemy raises.

What is no difference:
- Rows without `request_id`: they are the platform's.
- What a purged user has left: entries and roll-ups outlive people, rows don't. Someone new of the same id has the entries
  since the account was opened, and the roll-ups from that hour on. That hour is the limit of this: who is purged and made
  anew in it, with calls before and after, is reported.
- Roll-ups of a deleted key: they still name it, its rows don't. A group of rows (hour, user, model, upstream, api, status,
  locality) is compared key by key where all its rows have theirs, which is exact, and as a whole where some have none.
- `spent` of a key that a purged user had before: it lies between the rows and the rows with the roll-ups of those gone.

What is one, for a moment: holds of a process that has died, until others have ended its calls.

Line items are left out: they are amounts before multipliers and cuts, so that their sum need not be the row's cost.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import JSON, Executable, Interval, NullPool, Text, and_, bindparam, cast, func, literal_column, or_, select, text, true
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.sql import ColumnElement

from app.database import CONNECT_TIMEOUT, SCHEMA, Database
from app.models import Account, ApiCallLog, CallHold, CreditEntry, Instance, KeyMeter, UsageHourly

CHUNK = 200_000
"""Rows of the call log that one statement sums up."""
KEPT = 100
"""Differences of one check that are told one by one; the others are only counted."""
CUT = Decimal("0.00005")
"""How far a sum of bills and the sum of its charges may be apart. A row's bill is the difference of two such sums."""
_LARGEST_COST = 1_000_000_000
_FETCHED = 5000

Number = Decimal | int
Value = Number | str
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Difference:
    subject: str
    expected: Value
    found: Value


@dataclass(frozen=True, slots=True)
class Check:
    """`rule`: what must hold. `expected_is`, `found_is`: what the values of its differences are. `differing`: how many
    there are, of which `differences` has the first `KEPT`."""

    name: str
    rule: str
    expected_is: str
    found_is: str
    checked: int
    differing: int
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """`at`: when the snapshot was taken. `users`: those with an account. `rows`: those with a `request_id`.
    `oldest_hold`: its age in seconds, None where nothing is held."""

    at: datetime
    users: int
    rows: int
    holds: int
    oldest_hold: float | None
    checks: tuple[Check, ...]

    @property
    def differing(self) -> int:
        return sum(check.differing for check in self.checks)


async def audit(database: Database, *, lease: float, progress: Progress | None = None) -> Report:
    """`lease`: seconds; a process is dead when its lease ran out longer ago than that. `progress` is given the rows read
    so far, and an estimate of all."""
    settings = {"application_name": "billing-proxy audit", "jit": "off", "timezone": "UTC"}
    engine = create_async_engine(  # the pool's connections give up on a statement after COMMAND_TIMEOUT
        database.engine.url,
        poolclass=NullPool,
        hide_parameters=True,
        connect_args={"timeout": CONNECT_TIMEOUT, "command_timeout": None, "server_settings": settings},
    )
    try:
        async with engine.connect() as connection:
            await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            await connection.execute(_NO_TIMEOUTS)
            return await _Audit(connection, lease=timedelta(seconds=lease), progress=progress).run()
    finally:
        await engine.dispose()


_CHECKS = {
    "billed": ("a user's bills add up to `billed`", "sum of bills", "account.billed"),
    "cut": ("`billed` is `spent`, to 0.00005", "account.spent", "account.billed"),
    "spent": ("a user's charges add up to `spent`", "sum of charges", "account.spent"),
    "written_off": ("a user's write-offs add up to `written_off`", "sum of write-offs", "account.written_off"),
    "credit": ("a user's credit entries add up to `credit`", "sum of entries", "account.credit"),
    "held": ("a user's holds add up to `held`", "sum of holds", "account.held"),
    "available": ("what is available is not below zero", "at least", "credit + credit_limit - spent - held"),
    "key_held": ("a key's holds add up to its `held`", "sum of holds", "key_meter.held"),
    "key_in_flight": ("a key's holds are its calls in flight", "holds", "key_meter.in_flight"),
    "key_spent": ("a key's charges add up to its `spent`", "sum of charges", "key_meter.spent"),
    "bill": ("a row's bill is its charge, to 0.0001", "charge", "bill"),
    "roll_ups": ("roll-ups by hour are the sums of their rows", "rows have more", "roll-ups have more"),
    "one_row": ("a call has one row", "rows expected", "rows found"),
    "one_end": ("a call whose row is final holds nothing", "hold expected", "hold found"),
    "owners": ("a hold belongs to a process that lives", "expected", "found"),
}


class Group(NamedTuple):
    """What roll-ups tell apart, but for the key."""

    hour: datetime | None
    user_id: str
    model_name: str
    upstream_id: int
    api: str
    status: str
    is_local: bool


_WIDTH = len(Group._fields)
_TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
_MEASURES = ("calls", *_TOKENS, "charge", "bill", "write_off")
_CHARGE, _BILL, _WRITE_OFF = 6, 7, 8


def _hour_of(moment: Any) -> Any:
    return func.date_trunc(literal_column("'hour'"), moment, literal_column("'UTC'"))


_NO_TIMEOUTS = text(
    "SELECT set_config(name, '0', true) FROM pg_settings"
    " WHERE name IN ('statement_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')"
)
_ESTIMATE = text(f"EXPLAIN (FORMAT JSON) SELECT FROM {SCHEMA}.api_call_log").columns(plan=JSON)
_IS_UNIQUE = text(f"""
    SELECT EXISTS (
        SELECT FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0]
        WHERE indrelid = '{SCHEMA}.api_call_log'::regclass AND attname = 'request_id' AND indnkeyatts = 1
            AND indisunique AND indisvalid AND indpred IS NULL
    )
""")
_OF_ACCOUNT = and_(Account.user_id == UsageHourly.user_id, UsageHourly.hour >= _hour_of(Account.created_at))
_ROLL_UPS = select(*(getattr(UsageHourly, name) for name in (*Group._fields, "api_key_id", *_MEASURES))).join(Account, _OF_ACCOUNT)
_SOUND = and_(
    ApiCallLog.charge.between(0, _LARGEST_COST),
    ApiCallLog.write_off.between(0, _LARGEST_COST),
    ApiCallLog.bill >= 0,
    func.abs(ApiCallLog.bill - ApiCallLog.charge) <= 2 * CUT,
)
_ROWS_BY_GROUP = select(
    _hour_of(ApiCallLog.settled_at).label("hour"),
    ApiCallLog.user_id,
    ApiCallLog.model_name,
    func.coalesce(ApiCallLog.upstream_id, 0),
    func.coalesce(ApiCallLog.api, ""),
    ApiCallLog.status,
    ApiCallLog.is_local,
    ApiCallLog.api_key_id,
    func.count().label("calls"),
    *(func.coalesce(func.sum(getattr(ApiCallLog, name)), 0).label(name) for name in _MEASURES[1:]),
    func.count().filter(_SOUND.is_not(true())).label("unsound"),
).group_by(text("1, 2, 3, 4, 5, 6, 7, 8"))
_written_off = func.coalesce(cast(ApiCallLog.write_off, Text), "none").label("written_off")
_UNSOUND_ROWS = (
    select(ApiCallLog.request_id, ApiCallLog.user_id, ApiCallLog.charge, ApiCallLog.bill, _written_off)
    .where(_SOUND.is_not(true()))
    .order_by(ApiCallLog.id)
)
_TWICE = select(ApiCallLog.request_id, func.count()).group_by(ApiCallLog.request_id).having(func.count() > 1)

_by_user = select(CallHold.user_id, func.sum(CallHold.amount).label("amount")).group_by(CallHold.user_id).subquery()
_entered = (
    select(
        Account.user_id,
        func.sum(CreditEntry.amount).label("ever"),
        func.sum(CreditEntry.amount).filter(CreditEntry.created_at >= Account.created_at).label("since"),
    )
    .join(CreditEntry, CreditEntry.user_id == Account.user_id)
    .group_by(Account.user_id)
    .subquery()
)
_available = Account.credit + Account.credit_limit - Account.spent - Account.held
_ACCOUNTS = (
    select(
        *(Account.user_id, Account.credit, Account.spent, Account.billed, Account.written_off, Account.held),
        _available.label("available"),
        func.greatest(_available, 0).label("at_least"),
        _by_user.c.user_id.label("holder"),
        func.coalesce(_by_user.c.amount, 0).label("holding"),
        func.coalesce(_entered.c.ever, 0).label("ever_entered"),
        func.coalesce(_entered.c.since, 0).label("entered_since"),
    )
    .outerjoin(_by_user, _by_user.c.user_id == Account.user_id, full=True)
    .outerjoin(_entered, _entered.c.user_id == Account.user_id)
    .order_by(Account.user_id)
)
_by_key = select(CallHold.api_key_id, func.count().label("calls"), func.sum(CallHold.amount).label("amount"))
_by_key_id = _by_key.group_by(CallHold.api_key_id).subquery()
_METERS = (
    select(
        *(KeyMeter.key_id, KeyMeter.spent, KeyMeter.held, KeyMeter.in_flight),
        func.coalesce(_by_key_id.c.amount, 0).label("holding"),
        func.coalesce(_by_key_id.c.calls, 0).label("calls"),
    )
    .outerjoin(_by_key_id, _by_key_id.c.api_key_id == KeyMeter.key_id)
    .order_by(KeyMeter.key_id)
)
_CHARGES_OF_GONE = (
    select(UsageHourly.api_key_id, func.sum(UsageHourly.charge))
    .outerjoin(Account, _OF_ACCOUNT)
    .where(Account.user_id.is_(None), UsageHourly.api_key_id.in_(bindparam("key_ids", expanding=True)))
    .group_by(UsageHourly.api_key_id)
)
_age = func.extract("epoch", func.now() - CallHold.created_at)
_expired = func.now() - Instance.lease_until
_HOLDS = select(func.now(), func.count(), func.greatest(0, func.max(_age))).select_from(CallHold)
_ENDED_HOLDS = (
    select(CallHold.request_id, CallHold.user_id, CallHold.amount, ApiCallLog.status)
    .join(ApiCallLog, ApiCallLog.request_id == CallHold.request_id)
    .where(or_(ApiCallLog.end_reason.is_distinct_from("orphaned"), ApiCallLog.amended_at.is_not(None)))
)
_LOST_HOLDS = (
    select(
        *(CallHold.request_id, CallHold.user_id, CallHold.amount, CallHold.instance_id, _age.label("age")),
        func.extract("epoch", _expired).label("expired"),
    )
    .outerjoin(Instance, Instance.id == CallHold.instance_id)
    .where(or_(Instance.id.is_(None), _expired > bindparam("lease", type_=Interval())))
    .order_by(CallHold.created_at)
)


@dataclass(slots=True)
class _Tally:
    checked: int = 0
    differing: int = 0
    differences: list[Difference] = field(default_factory=list)

    def compare(self, subject: str, expected: Number, found: Number, *, within: Decimal = Decimal(0)) -> None:
        self.checked += 1
        apart = abs(Decimal(expected - found))
        if apart.is_nan() or apart > within:
            self.differ(subject, expected, found)

    def differ(self, subject: str, expected: Value, found: Value) -> None:
        self.differing += 1
        if len(self.differences) < KEPT:
            self.differences.append(Difference(subject, expected, found))


class _Balance:
    """Measures of rows less those of their roll-ups, by group and key. What is even is forgotten: as roll-ups are taken in
    the order of their hours, and rows are about so by their ids, no more is kept than a few hours and what differs."""

    def __init__(self) -> None:
        self._groups: dict[Group, dict[int | None, list[Number]]] = defaultdict(dict)
        self._touched: set[Group] = set()

    def add(self, group: Group, key: int | None, measures: Sequence[Number], sign: int) -> None:
        self._touched.add(group)
        _add(self._groups[group].setdefault(key, _zero()), measures, sign)

    def forget_even(self) -> None:
        for group in self._touched:
            if not any(any(sums) for sums in _comparable(self._groups[group]).values()):
                del self._groups[group]
        self._touched.clear()

    def tell(self, tally: _Tally) -> None:
        for group, keys in sorted(self._groups.items(), key=str):
            for key, sums in _comparable(keys).items():
                if any(sums):
                    tally.differ(_described(group, key), _listed(sums, 1), _listed(sums, -1))


def _zero() -> list[Number]:
    return [0] * len(_MEASURES)


def _add(sums: list[Number], measures: Sequence[Number], sign: int = 1) -> None:
    for number, measure in enumerate(measures):
        sums[number] += sign * measure


def _comparable(keys: Mapping[int | None, list[Number]]) -> Mapping[int | None, list[Number]]:
    """By key; or all in one, if rows without a key are left over, which may be those of any key that is gone."""
    return {None: [sum(parts) for parts in zip(*keys.values(), strict=True)]} if any(keys.get(None, ())) else keys


def _described(group: Group, key: int | None) -> str:
    hour = f"{group.hour:%Y-%m-%d %H:00}" if group.hour else "no hour"
    of = (group.model_name, f"upstream {group.upstream_id}", group.api, group.status, "local" if group.is_local else "")
    return ", ".join(part for part in (hour, group.user_id, f"key {key}" if key else "all keys", *of) if part)


def _listed(sums: Sequence[Number], sign: int) -> str:
    """The measures of this sign; what is no number has that of rows."""
    signed = [(name, sign * Decimal(part)) for name, part in zip(_MEASURES, sums, strict=True)]
    return ", ".join(f"{name} {part:f}" for name, part in signed if (sign > 0 if part.is_nan() else part > 0)) or "nothing"


class _Audit:
    def __init__(self, connection: AsyncConnection, *, lease: timedelta, progress: Progress | None) -> None:
        self._connection = connection
        self._lease = lease
        self._progress = progress
        self._tallies = {name: _Tally() for name in _CHECKS}
        self._balance = _Balance()
        self._of_user: dict[str, list[Number]] = defaultdict(_zero)
        self._of_key: dict[int, Number] = defaultdict(int)

    async def run(self) -> Report:
        await self._read_log()
        self._balance.tell(self._tallies["roll_ups"])
        await self._check_accounts()
        await self._check_keys()
        await self._check_request_ids()
        at, holds, oldest = (await self._connection.execute(_HOLDS)).one()
        await self._check_holds(holds)
        tallies = self._tallies
        return Report(
            at=at,
            users=tallies["credit"].checked,
            rows=tallies["bill"].checked,
            holds=holds,
            oldest_hold=float(oldest) if holds else None,
            checks=tuple(
                Check(name, *texts, tallies[name].checked, tallies[name].differing, tuple(tallies[name].differences))
                for name, texts in _CHECKS.items()
            ),
        )

    async def _read_log(self) -> None:
        """Sums the rows up, and takes the roll-ups of the same hours from them."""
        estimate = (await self._connection.execute(_ESTIMATE)).scalar_one()[0]["Plan"]["Plan Rows"]
        after, done, taken = -(2**63), 0, None
        while True:
            ids = select(ApiCallLog.id).where(ApiCallLog.id > after).order_by(ApiCallLog.id).limit(CHUNK).subquery()
            last, read = (await self._connection.execute(select(func.max(ids.c.id), func.count()).select_from(ids))).one()
            if not read:
                break
            newest = await self._sum_up(and_(ApiCallLog.id > after, ApiCallLog.id <= last, ApiCallLog.request_id.is_not(None)))
            if newest is not None and (taken is None or newest > taken):
                await self._take_roll_ups(taken, newest)
                taken = newest
            self._balance.forget_even()
            after, done = last, done + read
            if self._progress:
                self._progress(done, max(done, estimate))
        await self._take_roll_ups(taken, None)
        self._balance.forget_even()

    async def _sum_up(self, chunk: ColumnElement[bool]) -> datetime | None:
        """Returns the newest hour of the chunk."""
        newest: datetime | None = None
        unsound = 0
        async for row in self._each(_ROWS_BY_GROUP.where(chunk)):
            group, measures = Group(*row[:_WIDTH]), row[_WIDTH + 1 : -1]
            self._balance.add(group, row.api_key_id, measures, 1)
            _add(self._of_user[group.user_id], measures)
            if row.api_key_id is not None:
                self._of_key[row.api_key_id] += row.charge
            if group.hour is not None and (newest is None or group.hour > newest):
                newest = group.hour
            self._tallies["bill"].checked += row.calls
            unsound += row.unsound
        if unsound:
            async for row in self._each(_UNSOUND_ROWS.where(chunk)):
                subject = f"call {row.request_id} of {row.user_id}, written off {row.written_off}"
                self._tallies["bill"].differ(subject, "none" if row.charge is None else row.charge, row.bill)
        return newest

    async def _take_roll_ups(self, after: datetime | None, until: datetime | None) -> None:
        since = true() if after is None else UsageHourly.hour > after
        async for row in self._each(_ROLL_UPS.where(since, true() if until is None else UsageHourly.hour <= until)):
            self._tallies["roll_ups"].checked += 1
            self._balance.add(Group(*row[:_WIDTH]), row.api_key_id or None, row[_WIDTH + 1 :], -1)

    async def _check_accounts(self) -> None:
        tallies = self._tallies
        async for row in self._each(_ACCOUNTS):
            if row.user_id is None:
                tallies["held"].compare(f"{row.holder} (no account)", row.holding, 0)
                continue
            sums = self._of_user.pop(row.user_id, None) or _zero()
            tallies["billed"].compare(row.user_id, sums[_BILL], row.billed)
            tallies["cut"].compare(row.user_id, row.spent, row.billed, within=CUT)
            tallies["spent"].compare(row.user_id, sums[_CHARGE], row.spent)
            tallies["written_off"].compare(row.user_id, sums[_WRITE_OFF], row.written_off)
            tallies["credit"].compare(row.user_id, row.credit if row.credit == row.entered_since else row.ever_entered, row.credit)
            tallies["held"].compare(row.user_id, row.holding, row.held)
            tallies["available"].compare(row.user_id, row.at_least, row.available)
        for user_id, sums in sorted(self._of_user.items()):
            for name, number in (("billed", _BILL), ("spent", _CHARGE), ("written_off", _WRITE_OFF)):
                tallies[name].compare(f"{user_id} (no account)", sums[number], 0)

    async def _check_keys(self) -> None:
        tally = self._tallies["key_spent"]
        doubtful: list[tuple[int, Number, Decimal]] = []
        async for row in self._each(_METERS):
            charged = self._of_key.pop(row.key_id, 0)
            self._tallies["key_held"].compare(f"key {row.key_id}", row.holding, row.held)
            self._tallies["key_in_flight"].compare(f"key {row.key_id}", row.calls, row.in_flight)
            tally.checked += 1
            if charged != row.spent:
                doubtful.append((row.key_id, charged, row.spent))
        of_gone = self._each(_CHARGES_OF_GONE.params(key_ids=[key_id for key_id, _, _ in doubtful])) if doubtful else None
        gone = {key_id: charge async for key_id, charge in of_gone} if of_gone else {}
        for key_id, charged, spent in doubtful:
            excess = Decimal(spent - charged)
            if excess.is_nan() or not 0 <= excess <= gone.get(key_id, 0):
                tally.differ(f"key {key_id}", charged, spent)
        for key_id, charged in sorted(self._of_key.items()):
            tally.compare(f"key {key_id} (no meter)", charged, 0)

    async def _check_holds(self, holds: int) -> None:
        self._tallies["one_end"].checked = self._tallies["owners"].checked = holds
        async for row in self._each(_ENDED_HOLDS):
            self._tallies["one_end"].differ(f"call {row.request_id} of {row.user_id}, {row.status}", "none", row.amount)
        async for row in self._each(_LOST_HOLDS.params(lease=self._lease)):
            subject = f"call {row.request_id} of {row.user_id}, holding {row.amount:f}, {row.age:.0f} s old"
            found = "is gone" if row.expired is None else f"has a lease that ran out {row.expired:.0f} s ago"
            self._tallies["owners"].differ(subject, "a process that lives", f"{row.instance_id}, which {found}")

    async def _check_request_ids(self) -> None:
        """Where the constraint is in its place, it is the proof."""
        tally = self._tallies["one_row"]
        tally.checked = self._tallies["bill"].checked
        if not await self._connection.scalar(_IS_UNIQUE):
            async for request_id, rows in self._each(_TWICE.where(ApiCallLog.request_id.is_not(None))):
                tally.differ(f"call {request_id}", 1, rows)

    async def _each(self, query: Executable) -> AsyncIterator[Any]:
        async for rows in (await self._connection.stream(query)).partitions(_FETCHED):
            for row in rows:
                yield row
