"""Random histories of the ledger, each step compared with a model that says its rules once more, in plain Python.

Calls of several users and keys are reserved, settled, said again, lost, voided, orphaned and amended, while credit comes and
goes, limits change, people are disabled or purged and processes die. After every step each account, key, hold and row is
what the model says, to the last digit. One connection: what happens when steps overlap is for the other tests.
"""

import json
import os
import random
import secrets
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import Integer, Text, cast, func, literal_column
from sqlalchemy.dialects.postgresql import JSONB, asyncpg
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql import bindparam

from app.database import Database as Engine
from app.errors import Conflict, NotFound
from app.ledger.accounts import set_credit_limit, set_disabled
from app.ledger.credits import add_credit
from app.ledger.rows import rows_of
from app.models import ApiCallLog
from tests.faults.conftest import Tally
from tests.harness.background import Background
from tests.harness.fault_books import assert_audit
from tests.harness.postgres import Database
from tests.harness.scale import IS_FULL, scaled
from tests.ledger.sums import check, check_at_rest, check_periods, sum_up_periods

RUNS, STEPS = scaled(full=1000, short=8), scaled(full=50, short=25)
USERS, KEYS, PROCESSES = 3, 2, 3
ZERO = Decimal(0)
Change = Callable[[AsyncSession], Coroutine[Any, Any, Any]]
PATIENCE = 1000
LEAST = scaled(full=RUNS // 5, short=0)

# The model


@dataclass(eq=False)
class Process:
    name: str
    id: UUID
    holds_lease: bool = True
    is_dead: bool = False

    def __repr__(self) -> str:
        return self.name


@dataclass(eq=False)
class Payer:
    name: str
    id: str
    credit: Decimal
    credit_limit: Decimal
    spent: Decimal = ZERO
    billed: Decimal = ZERO
    held: Decimal = ZERO
    written_off: Decimal = ZERO
    is_disabled: bool = False
    is_purged: bool = False

    @property
    def available(self) -> Decimal:
        return self.credit + self.credit_limit - self.spent - self.held

    def __repr__(self) -> str:
        return self.name


@dataclass(eq=False)
class Key:
    name: str
    id: int
    payer: Payer
    spend_limit: Decimal | None = None
    max_concurrency: int | None = None
    is_disabled: bool = False
    spent: Decimal = ZERO
    held: Decimal = ZERO
    in_flight: int = 0

    def __repr__(self) -> str:
        return self.name


class Said(NamedTuple):
    """What a settlement says of a call."""

    cost: Decimal
    status: str = "success"
    end_reason: str | None = "completed"


End = tuple["Call", Said]
ORPHANED = Said(ZERO, "failed", "orphaned")
REFUSED = Said(ZERO, "failed", "refused")


@dataclass
class Row:
    charge: Decimal
    bill: Decimal
    write_off: Decimal
    status: str
    end_reason: str | None
    is_amended: bool


@dataclass(eq=False)
class Call:
    """`hold`: None where nothing is held for it (any more)."""

    name: str
    id: UUID
    key: Key
    ceiling: Decimal
    process: Process
    hold: Decimal | None = None
    row: Row | None = None
    said: Said | None = None
    was_granted: bool = False
    is_lost: bool = False

    @property
    def payer(self) -> Payer:
        return self.key.payer

    @property
    def is_orphan(self) -> bool:
        return self.row is not None and self.row.end_reason == "orphaned"

    def __repr__(self) -> str:
        return self.name


def cut(amount: Decimal) -> Decimal:
    return amount.quantize(Decimal("0.0001"), ROUND_HALF_UP)


def judge(calls: Iterable[Call], process: Process) -> dict[UUID, str]:
    """What each call of one reservation is answered. The smallest ceiling comes first, and a key's limits before money."""
    answers: dict[UUID, str] = {}
    queues: dict[Key, list[Call]] = {}
    wanted: Counter[Payer] = Counter()
    for call in sorted(calls, key=lambda call: (call.ceiling, call.id)):
        queue = queues.setdefault(call.key, [])
        answer = _refused_whoever_else_asks(call, process)
        if answer is None:  # from here on it has its place before those that come later
            queue.append(call)
            answer = _over_limit(call.key, sum((other.ceiling for other in queue), ZERO), len(queue))
        if answer is None:
            wanted[call.payer] += call.ceiling
            answer = "credit" if wanted[call.payer] > call.payer.available else "granted"
        answers[call.id] = answer
    return answers


def _refused_whoever_else_asks(call: Call, process: Process) -> str | None:
    if not process.holds_lease:
        return "no_lease"
    if call.payer.is_purged:
        return "user_gone"
    if call.payer.is_disabled:
        return "user_disabled"
    return "key_disabled" if call.key.is_disabled else _over_limit(call.key, call.ceiling, 1)


def _over_limit(key: Key, amount: Decimal, calls: int) -> str | None:
    if key.spend_limit is not None and key.spent + key.held + amount > key.spend_limit:
        return "spend_limit"
    return "max_concurrency" if key.max_concurrency is not None and key.in_flight + calls > key.max_concurrency else None


def hold(call: Call) -> None:
    call.hold, call.was_granted = call.ceiling, True
    call.payer.held += call.ceiling
    call.key.held += call.ceiling
    call.key.in_flight += 1


def free(call: Call) -> None:
    if call.hold is not None:
        call.payer.held -= call.hold
        call.key.held -= call.hold
        call.key.in_flight -= 1
    call.hold = None


def is_news(call: Call, said: Said) -> bool:
    """A call ends once. Only what became of an orphan may still come, once."""
    if call.payer.is_purged:
        return False
    return call.row is None or (call.is_orphan and not call.row.is_amended and said.end_reason != "orphaned")


def end(ends: Iterable[End]) -> list[Call]:
    """Those of one settlement that change something."""
    news = sorted({call.id: (call, said) for call, said in ends if is_news(call, said)}.items())
    payers = {call.payer: None for _, (call, _) in news}
    for payer in payers:
        _end_of_one([end for _, end in news if end[0].payer is payer], payer)
    return [call for _, (call, _) in news]


def _end_of_one(ends: Sequence[End], payer: Payer) -> None:
    """First everyone pays what its own hold covers. For the rest there is what nobody holds then, in the order of the ids."""
    covered = [min(said.cost, call.hold or ZERO) for call, said in ends]
    for call, _ in ends:
        free(call)
    purse = payer.available - sum(covered)
    for (call, said), own in zip(ends, covered, strict=True):
        more = min(said.cost - own, purse)
        purse -= more
        charge = own + more
        bill = cut(payer.spent + charge) - cut(payer.spent)
        payer.spent += charge
        payer.billed += bill
        payer.written_off += said.cost - charge
        call.key.spent += charge
        call.row = Row(charge, bill, said.cost - charge, said.status, said.end_reason, is_amended=call.row is not None)
        call.said = said


# What histories are made of


def up_to(most: int) -> st.SearchStrategy[Decimal]:
    """Evenly: `st.decimals` prefers what is almost nothing where there are many digits."""
    return st.builds(
        lambda thousandths, rest: Decimal(thousandths).scaleb(-3) + Decimal(rest).scaleb(-10),
        st.integers(0, 1000 * most - 1),
        st.integers(0, 10**7),
    )


tiny = st.integers(0, 3_000_000).map(lambda units: Decimal(units).scaleb(-10))
halves = st.integers(0, 20).map(lambda units: Decimal(units) * Decimal("0.00005"))
usual = up_to(2)
amounts = st.one_of(st.just(ZERO), tiny, halves, usual)
ceilings = st.one_of(amounts, usual, up_to(20))
payments = st.decimals(-3, 5, places=4).filter(bool)
limits = st.one_of(st.none(), up_to(3))
mostly = st.integers(0, 3).map(bool)
concurrencies = st.one_of(st.none(), st.integers(1, 4))


class Ask(NamedTuple):
    """`rank`: where its id stands among those of other calls."""

    key: int
    ceiling: Decimal
    rank: int
    tokens: int


key_numbers = st.integers(0, USERS * KEYS - 1)
asks = st.builds(Ask, key=key_numbers, ceiling=ceilings, rank=st.integers(0, 999), tokens=st.integers(0, 99))


def picked(which: str, *, most: int = 6) -> st.SearchStrategy[list[Call]]:
    """Calls from a list of the machine; a call may be there twice."""
    return st.runner().flatmap(lambda machine: st.lists(st.sampled_from(getattr(machine, which)), min_size=1, max_size=most))


def one_of(which: str) -> st.SearchStrategy[Any]:
    return st.runner().flatmap(lambda machine: st.sampled_from(getattr(machine, which)))


def costs(call: Call) -> st.SearchStrategy[Decimal]:
    """Below, at and above its ceiling."""
    half = (call.ceiling / 2).quantize(Decimal("1e-10"), ROUND_DOWN)
    return st.one_of(amounts, st.sampled_from([call.ceiling, half]), costs_above(call))


def costs_above(call: Call) -> st.SearchStrategy[Decimal]:
    return st.one_of(amounts, usual, up_to(20)).map(lambda more: call.ceiling + more)


def ends(which: str, *, most: int = 6, costs: Callable[[Call], st.SearchStrategy[Decimal]] = costs) -> st.SearchStrategy[list[End]]:
    """What is said of calls from a list of the machine."""

    def of(call: Call) -> st.SearchStrategy[End]:
        said = st.builds(Said, costs(call), st.sampled_from(["success", "failed"]), st.sampled_from(["completed", "client_gone", None]))
        return st.tuples(st.just(call), said)

    return picked(which, most=most).flatmap(lambda calls: st.tuples(*map(of, dict.fromkeys(calls)))).map(list)


class Kind(NamedTuple):
    """A method of the machine: how often it is chosen, the list that must not be empty, and its arguments."""

    name: str
    often: int
    needs: str | None
    arguments: Sequence[st.SearchStrategy[Any]]


class Step(NamedTuple):
    kind: str
    arguments: tuple[Any, ...]

    def __repr__(self) -> str:
        return f"{self.kind}{self.arguments}"


KINDS = (
    Kind("reserve", 6, None, [one_of("askers"), st.lists(asks, min_size=1, max_size=7)]),
    Kind("reserve_for_one_key", 3, None, [one_of("askers"), key_numbers, st.lists(asks, min_size=2, max_size=7)]),
    Kind("reserve_without_an_answer", 1, None, [one_of("askers"), st.lists(asks, min_size=1, max_size=7)]),
    Kind("settle", 5, "in_flight", [ends("in_flight")]),
    Kind("settle", 1, "in_flight", [ends("in_flight", most=1)]),
    Kind("settle", 3, "in_flight", [ends("in_flight", costs=costs_above)]),
    Kind("settle", 5, "orphans", [ends("orphans")]),
    Kind("settle", 1, "settleable", [ends("settleable", most=20)]),
    Kind("settle_refusals", 1, "refused", [picked("refused")]),
    Kind("replay", 2, "ended", [picked("ended")]),
    Kind("say_orphaned_again", 1, "orphans", [picked("orphans")]),
    Kind("void", 1, "lost", [picked("lost")]),
    Kind("void", 1, "calls", [picked("calls", most=3)]),
    Kind("die", 3, "living", [one_of("living")]),
    Kind("renew_the_lease_or_be_late", 1, "living", [one_of("living"), mostly]),
    Kind("reap", 1, None, [st.sampled_from([200, 2, 1])]),
    Kind("reap", 5, "dead", [st.sampled_from([200, 2, 1])]),
    Kind("pay", 3, None, [one_of("payers"), payments]),
    Kind("pay_again", 1, "payments", [one_of("payments")]),
    Kind("change_credit_limit", 1, None, [one_of("payers"), st.decimals(0, 3, places=4)]),
    Kind("enable_or_disable", 1, None, [one_of("payers"), mostly]),
    Kind("change_key", 3, None, [one_of("keys"), mostly, limits, concurrencies]),
    Kind("purge", 1, "purgeable", [one_of("purgeable")]),
)

# The ledger


def _compiled(statement: Any) -> tuple[str, list[str]]:
    compiled = statement.compile(dialect=asyncpg.dialect())
    return str(compiled), [name for name in compiled.positiontup if not name.startswith("timezone")]


def _rows_of(function: str, *parameters: Any) -> str:
    """The app's own statement, for a plain connection. The zone of its rows is the first parameter."""
    ended = getattr(func.aigcspace, function)(*parameters, literal_column("'UTC'"))
    sql, names = _compiled(rows_of(ended, time_zone="UTC").returning(ApiCallLog.request_id))
    assert len(names) == len(parameters)
    return sql


SETTLE = _rows_of("settle", cast(bindparam("batch", type_=Text()), JSONB()), bindparam("patience", type_=Integer()))
REAP = _rows_of("reap", bindparam("most", type_=Integer()), bindparam("patience", type_=Integer()))
RESERVE = """
    SELECT * FROM aigcspace.reserve(
        $1::uuid[], $2::text[], $3::int[], $4::text[], $5::numeric[], $6::bigint[], $7::boolean[], $8::text[], $9, $10, 'UTC'
    )
"""
PAYERS = """
    WITH given AS (SELECT * FROM unnest($1::text[], $2::numeric[], $3::numeric[]) AS given (id, credit, credit_limit)), users AS (
        INSERT INTO aigcspace.users (id) SELECT id FROM given
    ), entries AS (
        INSERT INTO aigcspace.credit_entry (user_id, amount) SELECT id, credit FROM given WHERE credit > 0
    ) INSERT INTO aigcspace.account (user_id, credit, credit_limit) TABLE given
"""
KEY = """
    WITH key AS (INSERT INTO aigcspace.platform_api_key (user_id) VALUES ($1) RETURNING id), policy AS (
        INSERT INTO aigcspace.key_policy (key_id) SELECT id FROM key
    ) INSERT INTO aigcspace.key_meter (key_id) SELECT id FROM key RETURNING key_id
"""
POLICY = """
    UPDATE aigcspace.key_policy SET spend_limit = $2, max_concurrency = $3, disabled_at = CASE WHEN $4 THEN now() END WHERE key_id = $1
"""
PROCESS = "INSERT INTO aigcspace.instance (id, host, process_id, lease_until) VALUES ($1, 'tests', 1, now() + interval '1 day')"
STATE = """
    SELECT json_build_object(
        'accounts', (SELECT json_object_agg(user_id, json_build_object(
            'credit', credit, 'credit_limit', credit_limit, 'spent', spent, 'billed', billed, 'held', held, 'written_off', written_off,
            'is_disabled', disabled_at IS NOT NULL,
            'paid_in', (SELECT coalesce(sum(amount), 0) FROM aigcspace.credit_entry e WHERE e.user_id = a.user_id)
        )) FROM aigcspace.account a WHERE user_id = ANY ($1)),
        'keys', (SELECT json_object_agg(key_id, json_build_object('spent', spent, 'held', held, 'in_flight', in_flight))
            FROM aigcspace.key_meter WHERE key_id = ANY ($2)),
        'holds', (SELECT json_object_agg(request_id, amount) FROM aigcspace.call_hold WHERE user_id = ANY ($1)),
        'rows', (SELECT json_object_agg(request_id, json_build_object(
            'charge', charge, 'bill', bill, 'write_off', write_off, 'status', status, 'end_reason', end_reason,
            'is_amended', amended_at IS NOT NULL
        )) FROM aigcspace.api_call_log WHERE user_id = ANY ($1))
    )
"""


@dataclass
class Place:
    """What all histories share: a database, the app's engine on it, and what was reached."""

    db: Database
    background: Background
    engine: Engine
    reached: Counter[str] = field(default_factory=Counter)
    number: int = 0

    def administer(self, change: Change) -> None:
        async def run() -> None:
            async with self.engine.transaction() as session:
                await change(session)

        self.background.run(run())


class Histories(RuleBasedStateMachine):
    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place, self.db, self.reached = place, place.db, place.reached
        place.number += 1
        self.salt = f"{place.number}-{secrets.token_hex(3)}"
        self.payers: list[Payer] = []
        self.keys: list[Key] = []
        self.processes: list[Process] = []
        self.calls: list[Call] = []
        self.payments: list[tuple[Payer, Decimal, str]] = []
        self.steps = 0
        self.is_right = False

    @property
    def stay(self) -> list[Payer]:
        return [payer for payer in self.payers if not payer.is_purged]

    @property
    def in_flight(self) -> list[Call]:
        """That a process could settle: the answers to their reservations came."""
        return [call for call in self.calls if call.hold is not None and not call.is_lost]

    @property
    def settleable(self) -> list[Call]:
        """In whatever state, but never let through."""
        return [call for call in self.calls if call.hold is None or not call.is_lost]

    @property
    def lost(self) -> list[Call]:
        return [call for call in self.calls if call.hold is not None and call.is_lost]

    @property
    def refused(self) -> list[Call]:
        return [call for call in self.calls if not call.was_granted and call.row is None and not call.payer.is_purged]

    @property
    def ended(self) -> list[Call]:
        return [call for call in self.calls if call.said is not None]

    @property
    def orphans(self) -> list[Call]:
        return [call for call in self.calls if call.is_orphan and not call.payer.is_purged]

    @property
    def dead(self) -> list[Call]:
        """Calls that a reaper would end."""
        return [call for call in self.calls if call.hold is not None and call.process.is_dead]

    @property
    def living(self) -> list[Process]:
        return [process for process in self.processes if not process.is_dead]

    @property
    def askers(self) -> list[Process]:
        """Also one that was declared dead and doesn't know."""
        return self.living * 3 + [process for process in self.processes if process.is_dead][-1:]

    @property
    def purgeable(self) -> list[Payer]:
        """Late in a history, and not all."""
        return self.stay if self.steps > STEPS // 2 and len(self.stay) > 1 else []

    # Steps: see `KINDS`

    @rule(step=st.runner().flatmap(lambda machine: machine.next_steps()))
    def take(self, step: "Step") -> None:
        self.is_right = False
        getattr(self, step.kind)(*step.arguments)

    def next_steps(self) -> st.SearchStrategy["Step"]:
        """One of several rules would be left out of half of all runs, to try what others do without it."""
        possible = [kind for kind in KINDS for _ in range(kind.often) if not kind.needs or getattr(self, kind.needs)]
        return st.sampled_from(possible).flatmap(lambda kind: st.builds(Step, st.just(kind.name), st.tuples(*kind.arguments)))

    @initialize(
        credit=st.lists(st.decimals(0, 4, places=4), min_size=USERS, max_size=USERS),
        credit_limit=st.lists(st.sampled_from([ZERO, ZERO, Decimal("1.5")]), min_size=USERS, max_size=USERS),
        spend_limit=up_to(3),
        most=concurrencies,
    )
    def begin(self, credit: list[Decimal], credit_limit: list[Decimal], spend_limit: Decimal, most: int | None) -> None:
        for number in range(USERS):
            self.payers.append(Payer(f"user{number}", f"user-{self.salt}-{number}", credit[number], credit_limit[number]))
        self.db.execute(PAYERS, self.user_ids, credit, credit_limit)
        for payer in self.payers:
            for number in range(KEYS):
                self.keys.append(Key(f"{payer}.key{number}", int(self.db.value(KEY, payer.id)), payer))
        for key in self.keys[1::KEYS]:
            self.change_key(key, True, spend_limit, most)
        for _ in range(PROCESSES):
            self._start()

    def reserve(self, process: Process, asks: list[Ask]) -> None:
        self._reserve(process, asks)

    def reserve_for_one_key(self, process: Process, key: int, asks: list[Ask]) -> None:
        self._reserve(process, [ask._replace(key=key) for ask in asks])

    def reserve_without_an_answer(self, process: Process, asks: list[Ask]) -> None:
        for call in self._reserve(process, asks):
            call.is_lost = True

    def settle(self, ended: list[End]) -> None:
        amending = {call.id for call, _ in ended if call.row is not None}
        changed = end(ended)
        self._db_settle(ended, [call.id for call in changed])
        for call in changed:
            self._count(call, call.id in amending)
        self.reached["said again"] += len(ended) - len(changed)

    def settle_refusals(self, calls: list[Call]) -> None:
        self.settle([(call, REFUSED) for call in calls])

    def replay(self, calls: list[Call]) -> None:
        """Of the living and the purged; a call may be there twice."""
        self.settle([(call, call.said or REFUSED) for call in calls])

    def say_orphaned_again(self, calls: list[Call]) -> None:
        self.settle([(call, ORPHANED) for call in calls])

    def void(self, calls: list[Call]) -> None:
        """What has ended in the meantime stays as it is."""
        held = [call for call in dict.fromkeys(calls) if call.hold is not None]
        for call in held:
            free(call)
        assert self.db.value("SELECT aigcspace.void($1::uuid[], $2)", [call.id for call in calls], PATIENCE) == len(held)
        self.reached["voided"] += len(held)

    def die(self, process: Process) -> None:
        self.db.execute("DELETE FROM aigcspace.instance WHERE id = $1", process.id)
        process.is_dead, process.holds_lease = True, False
        self._start()

    def renew_the_lease_or_be_late(self, process: Process, renewed: bool) -> None:
        """Who is late was not declared dead yet, so that its calls are its own."""
        change = "UPDATE aigcspace.instance SET lease_until = now() + CASE WHEN $2 THEN 1 ELSE -1 END * interval '1 day' WHERE id = $1"
        self.db.execute(change, process.id, renewed)
        process.holds_lease = renewed

    def reap(self, most: int) -> None:
        """Which of the dead go first is the database's choice."""
        dead = {call.id: call for call in self.dead}
        ended = [row["request_id"] for row in self.db.fetch(REAP, "UTC", most, PATIENCE)]
        assert set(ended) <= dead.keys()
        assert len(ended) == len(set(ended))
        assert min(1, len(dead)) <= len(ended) <= most
        assert len(ended) == len(dead) or most < len(dead)
        end((dead[request_id], ORPHANED) for request_id in ended)
        self.reached["reaped"] += len(ended)

    def pay(self, payer: Payer, amount: Decimal) -> None:
        """A negative amount is taken back."""
        payment = payer, amount, f"{self.salt}-{len(self.payments)}"
        if self._try(self._paying(*payment), payer, payer.available + amount >= 0):
            payer.credit += amount
            self.payments.append(payment)

    def pay_again(self, payment: tuple[Payer, Decimal, str]) -> None:
        """With the same idempotency key."""
        self._try(self._paying(*payment), payment[0], True)

    def change_credit_limit(self, payer: Payer, credit_limit: Decimal) -> None:
        change = partial(set_credit_limit, user_id=payer.id, credit_limit=credit_limit, default_credit=ZERO)
        if self._try(change, payer, payer.available - payer.credit_limit + credit_limit >= 0):
            payer.credit_limit = credit_limit

    def enable_or_disable(self, payer: Payer, enabled: bool) -> None:
        if self._try(partial(set_disabled, user_id=payer.id, disabled=not enabled, default_credit=ZERO), payer, True):
            payer.is_disabled = not enabled

    def change_key(self, key: Key, enabled: bool, spend_limit: Decimal | None, most: int | None) -> None:
        self.db.execute(POLICY, key.id, spend_limit, most, not enabled)
        key.is_disabled, key.spend_limit, key.max_concurrency = not enabled, spend_limit, most

    def purge(self, payer: Payer) -> None:
        self.db.execute("DELETE FROM aigcspace.users WHERE id = $1", payer.id)
        payer.is_purged = True
        for call in self.calls:
            if call.payer.is_purged:
                call.hold = call.row = None
        self.reached["purged users"] += 1

    # What must be so after each

    @invariant()
    def is_as_the_model_says(self) -> None:
        self.is_right = False
        self.steps += 1
        self.reached["steps"] += 1
        self._compare()
        check(self.db, [payer.id for payer in self.stay])
        self.is_right = True

    def teardown(self) -> None:
        """Whoever lives dies, and all is reaped. Then nothing is held."""
        try:
            if self.is_right:
                for process in self.living:
                    self.db.execute("DELETE FROM aigcspace.instance WHERE id = $1", process.id)
                    process.is_dead = True
                self.reap(10_000)
                self._compare()
                check_at_rest(self.db, [payer.id for payer in self.stay])
                check_periods(self.db)
                self.reached["runs"] += 1
        finally:
            # the checks of later histories would read the rows of this one
            self.db.execute("DELETE FROM aigcspace.instance WHERE id = ANY ($1)", [process.id for process in self.processes])
            self.db.execute("DELETE FROM aigcspace.users WHERE id = ANY ($1)", self.user_ids)
            self.db.execute("DELETE FROM aigcspace.usage_hourly WHERE user_id = ANY ($1)", self.user_ids)
            sum_up_periods(self.db)

    @property
    def user_ids(self) -> list[str]:
        return [payer.id for payer in self.payers]

    def _compare(self) -> None:
        found = json.loads(self.db.value(STATE, self.user_ids, [key.id for key in self.keys]), parse_float=Decimal)
        assert found["accounts"] == {payer.id: _account(payer) for payer in self.stay}
        for payer in self.stay:
            assert payer.available >= 0
        assert found["keys"] == {str(key.id): _meter(key) for key in self.keys if not key.payer.is_purged}
        assert (found["rows"] or {}) == {str(call.id): vars(call.row) for call in self.calls if call.row is not None}
        assert (found["holds"] or {}) == {str(call.id): call.hold for call in self.calls if call.hold is not None}

    # How

    def _start(self) -> None:
        number = len(self.processes)
        self.processes.append(Process(f"process{number}", UUID(int=secrets.randbits(128))))
        self.db.execute(PROCESS, self.processes[-1].id)

    def _new_call(self, ask: Ask, process: Process) -> Call:
        key, number = self.keys[ask.key], len(self.calls)
        request_id = UUID(int=ask.rank << 112 | number << 96 | secrets.randbits(96))
        call = Call(f"call{number}({ask.ceiling} of {key})", request_id, key, ask.ceiling, process)
        self.calls.append(call)
        return call

    def _reserve(self, process: Process, asks: list[Ask]) -> list[Call]:
        calls = [self._new_call(ask, process) for ask in asks]
        columns = {
            "ids": [call.id for call in calls],
            "users": [call.payer.id for call in calls],
            "keys": [call.key.id for call in calls],
            "hashes": [None for _ in calls],
            "ceilings": [call.ceiling for call in calls],
            "tokens": [ask.tokens for ask in asks],
            "open_ended": [False for _ in calls],
            "entries": [json.dumps(_entry(call)) for call in calls],
        }
        before = {call.id: None if call.payer.is_purged else call.payer.available for call in calls}
        expected = judge(calls, process)
        answers = self.db.fetch(RESERVE, *columns.values(), process.id, PATIENCE)
        assert {row["request_id"]: row["outcome"] for row in answers} == expected
        assert {row["request_id"]: row["available"] for row in answers} == before
        for call in calls:
            if expected[call.id] == "granted":
                hold(call)
        self.reached.update(f"reserve: {answer}" for answer in expected.values())
        return calls

    def _db_settle(self, ended: list[End], changed: list[UUID]) -> None:
        batch = json.dumps([_entry(call) | _outcome(said) for call, said in ended])
        assert sorted(row["request_id"] for row in self.db.fetch(SETTLE, "UTC", batch, PATIENCE)) == changed

    def _count(self, call: Call, is_amended: bool) -> None:
        assert call.row is not None
        assert call.said is not None
        how = "amended" if is_amended else "refusals" if not call.was_granted else "settled"
        beyond = call.said.cost - call.ceiling
        if how == "settled":
            how += ", below the hold" if beyond < 0 else ", above the hold" if beyond > 0 else ", at the hold"
        self.reached[how] += 1
        self.reached["written off"] += bool(call.row.write_off)

    def _try(self, change: Change, payer: Payer, fits: bool) -> bool:
        """Whether it was done; what doesn't fit, or is nobody's, must be refused."""
        if payer.is_purged:
            with pytest.raises(NotFound):
                self.place.administer(change)
        elif not fits:
            with pytest.raises(Conflict):
                self.place.administer(change)
            self.reached["changes refused"] += 1
        else:
            self.place.administer(change)
            return True
        return False

    def _paying(self, payer: Payer, amount: Decimal, key: str) -> Change:
        return partial(add_credit, user_id=payer.id, amount=amount, note=None, idempotency_key=key, default_credit=ZERO)


def _account(payer: Payer) -> dict[str, Any]:
    names = ("credit", "credit_limit", "spent", "billed", "held", "written_off", "is_disabled")
    return {name: getattr(payer, name) for name in names} | {"paid_in": payer.credit}


def _meter(key: Key) -> dict[str, Any]:
    return {"spent": key.spent, "held": key.held, "in_flight": key.in_flight}


def _entry(call: Call) -> dict[str, Any]:
    return {
        "request_id": str(call.id),
        "user_id": call.payer.id,
        "api_key_id": call.key.id,
        "model_name": "model",
        "is_local": False,
        "input_tokens": 10,
        "output_tokens": 5,
        "status": "failed",
    }


def _outcome(said: Said) -> dict[str, Any]:
    return {"cost": f"{said.cost:f}", "status": said.status, "end_reason": said.end_reason}


@pytest.fixture
def place(db: Database, background: Background) -> Iterator[Place]:
    """Nothing here is about what survives a crash, so that no commit waits for the disk."""
    db.execute(f'ALTER DATABASE "{db.value("SELECT current_database()")}" SET synchronous_commit = off')
    db.execute("SET synchronous_commit = off")
    engine = Engine(db.url, pool_size=1)
    yield Place(db, background, engine)
    background.run(engine.close())
    assert_audit(db)


REACHED = (
    "settled, below the hold",
    "settled, at the hold",
    "settled, above the hold",
    "refusals",
    "written off",
    "said again",
    "amended",
    "reaped",
    "voided",
    "changes refused",
    "purged users",
    *(f"reserve: {answer}" for answer in ("granted", "credit", "spend_limit", "max_concurrency", "no_lease", "user_gone", "user_disabled")),
    "reserve: key_disabled",
)


@pytest.mark.timeout(scaled(full=3600, short=120))
def test_any_history_leaves_what_the_model_says(place: Place, tally: Callable[[str, str, int], Tally]) -> None:
    how = settings(
        max_examples=RUNS,
        stateful_step_count=STEPS,
        deadline=None,
        derandomize=not IS_FULL,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    chosen = int(os.environ.get("FAULTS_SEED") or random.randrange(2**32))
    if IS_FULL:
        print(f"FAULTS_SEED={chosen}")

    def make() -> Histories:
        return Histories(place)

    try:
        run_state_machine_as_test(seed(chosen)(make) if IS_FULL else make, settings=how)
    finally:
        tally("random histories of the ledger", f"runs of up to {STEPS} steps", RUNS).add(place.reached["runs"])
        for what in REACHED:
            tally(f"random histories: {what}", "times", LEAST).add(place.reached[what])
    assert [what for what in REACHED if place.reached[what] < LEAST] == []
