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
- Rows that were archived: `archived_usage` has their sums, by what roll-ups tell apart, and stands for them. What was refunded
  of them is compared in total, by user.
- Roll-ups of a deleted key: they still name it, its rows don't. A group of rows (hour, user, model, upstream, api, status,
  locality) is compared key by key where all its rows have theirs, which is exact, and as a whole where some have none.
- `spent` of a key that a purged user had before: it lies between the rows and the rows with the roll-ups of those gone.

What is one, for a moment: holds of a process that has died, until others have ended its calls.

Line items are left out: they are amounts before multipliers and cuts, so that their sum need not be the row's cost.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Executable, NullPool, and_, func, select, true
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.sql import ColumnElement

from app.database import CONNECT_TIMEOUT, Database
from app.ledger import audit_queries as queries
from app.ledger.audit_balance import BILL, CHARGE, MEASURES, WIDTH, WRITE_OFF, Balance, Group, add, exact, listed, zero
from app.ledger.audit_queries import CUT
from app.ledger.audit_report import Check, Number, Report, Tally
from app.models import ApiCallLog, ArchivedUsage, UsageHourly

CHUNK = 200_000
"""Rows of the call log that one statement sums up."""
_FETCHED = 5000
_HOUR = timedelta(hours=1)

Progress = Callable[[int, int], None]

_CHECKS = {
    "billed": ("a user's bills add up to `billed`", "sum of bills", "account.billed"),
    "cut": ("`billed` is `spent`, to 0.00005", "account.spent", "account.billed"),
    "spent": ("a user's charges add up to `spent`", "sum of charges", "account.spent"),
    "written_off": ("a user's write-offs add up to `written_off`", "sum of write-offs", "account.written_off"),
    "credit": ("a user's credit entries add up to `credit`", "sum of entries", "account.credit"),
    "refunds": ("a call's refunds are not above its bill", "at most", "refunded"),
    "held": ("a user's holds add up to `held`", "sum of holds", "account.held"),
    "available": ("what is available is not below zero", "at least", "credit + credit_limit - spent - held"),
    "in_flight": ("a user's holds are their calls in flight", "holds", "account.in_flight"),
    "key_held": ("a key's holds add up to its `held`", "sum of holds", "key_meter.held"),
    "key_in_flight": ("a key's holds are its calls in flight", "holds", "key_meter.in_flight"),
    "key_spent": ("a key's charges add up to its `spent`", "sum of charges", "key_meter.spent"),
    "bill": ("a row's bill is its charge, to 0.0001", "charge", "bill"),
    "roll_ups": ("roll-ups by hour are the sums of their rows", "rows have more", "roll-ups have more"),
    "archived": ("archived rows are those of the files", "deleted from the log", "archived"),
    "periods": ("sums of days, months and users are those of their hours", "hours have more", "the sums have more"),
    "one_row": ("a call has one row", "rows expected", "rows found"),
    "one_end": ("a call whose row is final holds nothing", "hold expected", "hold found"),
    "owners": ("a hold belongs to a process that lives, or to a call in the background", "expected", "found"),
}


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
            await connection.execute(queries.NO_TIMEOUTS)
            return await _Audit(connection, lease=timedelta(seconds=lease), progress=progress).run()
    finally:
        await engine.dispose()


class _Audit:
    def __init__(self, connection: AsyncConnection, *, lease: timedelta, progress: Progress | None) -> None:
        self._connection = connection
        self._lease = lease
        self._progress = progress
        self._tallies = {name: Tally() for name in _CHECKS}
        self._balance = Balance()
        self._of_user: dict[str, list[Number]] = defaultdict(zero)
        self._of_key: dict[int, Number] = defaultdict(int)
        self._refunds_of_archived: dict[str, Number] = defaultdict(int)
        self._archived = 0

    async def run(self) -> Report:
        await self._read_log()
        self._balance.tell(self._tallies["roll_ups"])
        await self._check_periods()
        await self._check_accounts()
        await self._check_keys()
        await self._check_refunds()
        tallies_of_files = (await self._connection.execute(queries.ARCHIVED_CALLS)).one()
        self._tallies["archived"].compare("all files", tallies_of_files[1], tallies_of_files[0])
        await self._check_request_ids()
        at, holds, oldest = (await self._connection.execute(queries.HOLDS)).one()
        await self._check_holds(holds)
        tallies = self._tallies
        return Report(
            at=at,
            users=tallies["credit"].checked,
            rows=tallies["bill"].checked,
            archived=self._archived,
            holds=holds,
            oldest_hold=float(oldest) if holds else None,
            checks=tuple(
                Check(name, *texts, tallies[name].checked, tallies[name].differing, tuple(tallies[name].differences))
                for name, texts in _CHECKS.items()
            ),
        )

    async def _read_log(self) -> None:
        """Sums the rows up, and takes the roll-ups of the same hours from them."""
        estimate = (await self._connection.execute(queries.ESTIMATE)).scalar_one()[0]["Plan"]["Plan Rows"]
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
        async for row in self._each(queries.ROWS_BY_GROUP.where(chunk)):
            group, measures = Group(*row[:WIDTH]), exact(row[WIDTH + 1 : -1])
            self._balance.add(group, row.api_key_id, measures, 1)
            add(self._of_user[group.user_id], measures)
            if row.api_key_id is not None:
                self._of_key[row.api_key_id] += row.charge
            if group.hour is not None and (newest is None or group.hour > newest):
                newest = group.hour
            self._tallies["bill"].checked += row.calls
            unsound += row.unsound
        if unsound:
            async for row in self._each(queries.UNSOUND_ROWS.where(chunk)):
                subject = f"call {row.request_id} of {row.user_id}, written off {row.written_off}"
                self._tallies["bill"].differ(subject, "none" if row.charge is None else row.charge, row.bill)
        return newest

    async def _take_roll_ups(self, after: datetime | None, until: datetime | None) -> None:
        since = true() if after is None else UsageHourly.hour > after
        async for row in self._each(queries.ROLL_UPS.where(since, true() if until is None else UsageHourly.hour <= until)):
            self._tallies["roll_ups"].checked += 1
            self._balance.add(Group(*row[:WIDTH]), row.api_key_id or None, exact(row[WIDTH + 1 :]), -1)
        await self._take_archived(after, until)

    async def _take_archived(self, after: datetime | None, until: datetime | None) -> None:
        """The rows of these hours that were archived count as if they were there."""
        since = true() if after is None else ArchivedUsage.bucket >= after + _HOUR
        async for row in self._each(queries.ARCHIVED.where(since, true() if until is None else ArchivedUsage.bucket < until + _HOUR)):
            group, measures = Group(*row[:WIDTH]), exact(row[WIDTH + 1 : -1])
            self._balance.add(group, row[WIDTH], measures, 1)
            add(self._of_user[group.user_id], measures)
            self._refunds_of_archived[group.user_id] += row.refunded
            if row[WIDTH] is not None:
                self._of_key[row[WIDTH]] += row.charge
            self._archived += row.calls

    async def _check_periods(self) -> None:
        tally = self._tallies["periods"]
        tally.checked = await self._connection.scalar(queries.PERIODS) or 0
        async for row in self._each(queries.UNEVEN_PERIODS):
            whose = f"{row.user_id}, key {row.api_key_id}" if row.user_id else "all users"
            subject = f"{row.period} {row.start:%Y-%m-%d}, {whose}, {row.model_name}, upstream {row.upstream_id}, {row.api}, {row.status}"
            sums = exact(row[-len(MEASURES) :])
            tally.differ(subject, listed(sums, 1), listed(sums, -1))

    async def _check_accounts(self) -> None:
        tallies = self._tallies
        async for row in self._each(queries.ACCOUNTS):
            if row.user_id is None:
                tallies["held"].compare(f"{row.holder} (no account)", row.holding, 0)
                continue
            sums = self._of_user.pop(row.user_id, None) or zero()
            tallies["billed"].compare(row.user_id, sums[BILL], row.billed)
            tallies["cut"].compare(row.user_id, row.spent, row.billed, within=CUT)
            tallies["spent"].compare(row.user_id, sums[CHARGE], row.spent)
            tallies["written_off"].compare(row.user_id, sums[WRITE_OFF], row.written_off)
            tallies["credit"].compare(row.user_id, row.credit if row.credit == row.entered_since else row.ever_entered, row.credit)
            tallies["held"].compare(row.user_id, row.holding, row.held)
            tallies["in_flight"].compare(row.user_id, row.calls, row.in_flight)
            tallies["available"].compare(row.user_id, row.at_least, row.available)
        for user_id, sums in sorted(self._of_user.items()):
            for name, number in (("billed", BILL), ("spent", CHARGE), ("written_off", WRITE_OFF)):
                tallies[name].compare(f"{user_id} (no account)", sums[number], 0)

    async def _check_keys(self) -> None:
        tally = self._tallies["key_spent"]
        doubtful: list[tuple[int, Number, Decimal]] = []
        async for row in self._each(queries.METERS):
            charged = self._of_key.pop(row.key_id, 0)
            self._tallies["key_held"].compare(f"key {row.key_id}", row.holding, row.held)
            self._tallies["key_in_flight"].compare(f"key {row.key_id}", row.calls, row.in_flight)
            tally.checked += 1
            if charged != row.spent:
                doubtful.append((row.key_id, charged, row.spent))
        of_gone = self._each(queries.CHARGES_OF_GONE.params(key_ids=[key_id for key_id, _, _ in doubtful])) if doubtful else None
        gone = {key_id: charge async for key_id, charge in of_gone} if of_gone else {}
        for key_id, charged, spent in doubtful:
            excess = Decimal(spent - charged)
            if excess.is_nan() or not 0 <= excess <= gone.get(key_id, 0):
                tally.differ(f"key {key_id}", charged, spent)
        for key_id, charged in sorted(self._of_key.items()):
            tally.compare(f"key {key_id} (no meter)", charged, 0)

    async def _check_refunds(self) -> None:
        tally, gone = self._tallies["refunds"], defaultdict[str, Number](int)
        async for row in self._each(queries.REFUNDS):
            if row.bill is None:
                gone[row.user_id] += row.amount
            else:
                tally.compare(f"call {row.request_id} of {row.user_id}", min(row.bill, row.amount), row.amount)
        for user_id in sorted({*gone, *self._refunds_of_archived}):
            tally.compare(f"calls of {user_id} whose rows are archived", self._refunds_of_archived[user_id], gone[user_id])

    async def _check_holds(self, holds: int) -> None:
        self._tallies["one_end"].checked = self._tallies["owners"].checked = holds
        async for row in self._each(queries.ENDED_HOLDS):
            self._tallies["one_end"].differ(f"call {row.request_id} of {row.user_id}, {row.status}", "none", row.amount)
        async for row in self._each(queries.LOST_HOLDS.params(lease=self._lease)):
            subject = f"call {row.request_id} of {row.user_id}, holding {row.amount:f}, {row.age:.0f} s old"
            found = "is gone" if row.expired is None else f"has a lease that ran out {row.expired:.0f} s ago"
            self._tallies["owners"].differ(subject, "a process that lives", f"{row.instance_id}, which {found}")

    async def _check_request_ids(self) -> None:
        """Where the constraint is in its place, it is the proof."""
        tally = self._tallies["one_row"]
        tally.checked = self._tallies["bill"].checked
        if not await self._connection.scalar(queries.IS_UNIQUE):
            async for request_id, rows in self._each(queries.TWICE.where(ApiCallLog.request_id.is_not(None))):
                tally.differ(f"call {request_id}", 1, rows)

    async def _each(self, query: Executable) -> AsyncIterator[Any]:
        async for rows in (await self._connection.stream(query)).partitions(_FETCHED):
            for row in rows:
                yield row
