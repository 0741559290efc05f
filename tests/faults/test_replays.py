"""Outcomes that come thrice, shuffled, from several processes, beside one that still settles, one that reaps and one that voids."""

import asyncio
import random
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from sqlalchemy import func, make_url, select

import app.ledger.recovery as recovery_module
from app.database import LOCK_WAIT
from app.ledger.outcome import Outcome
from tests.faults.conftest import Tally
from tests.faults.test_histories import PATIENCE, SETTLE
from tests.harness.background import Background
from tests.harness.books import wait_until
from tests.harness.fault_books import assert_audit
from tests.harness.postgres import Database
from tests.harness.scale import scaled
from tests.ledger.calls import Call, Payer, account, holds, make_key, make_payer, rows
from tests.ledger.replica import Replica, replicas
from tests.ledger.sums import check_at_rest

ROUNDS = scaled(full=50, short=1)
PAYERS, CALLS, TIMES = 4, 48, 3
CHANGES = """
    CREATE TABLE aigcspace.row_change (request_id uuid, what text);
    CREATE FUNCTION aigcspace.keep_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO aigcspace.row_change VALUES (new.request_id, TG_OP); RETURN NULL; END
    $$;
    CREATE TRIGGER keep_change AFTER INSERT OR UPDATE ON aigcspace.api_call_log FOR EACH ROW EXECUTE FUNCTION aigcspace.keep_change();
"""


def second_key(db: Database, payer: Payer) -> Payer:
    return Payer(payer.user_id, make_key(db, payer.user_id))


class Cast:
    """`live` settles its calls as they end: those of `early` under a lease that was declared dead meanwhile, those of `own`
    under its new one. It also voids `lost`, which nobody owns and which died with `early`."""

    def __init__(self, db: Database, started: list[Replica]) -> None:
        self.db = db
        self.live, self.reaper, *self.replayers = started
        self.payers = [make_payer(db, credit="1000") for _ in range(PAYERS)]
        calls = self._calls()
        self.early, self.own, self.lost = calls[::3], calls[1::3], calls[2::3]
        self.live.hold(*self.early)
        self.live.holds._owned.update(call.request_id for call in self.lost)  # else its own recovery may void them before the play
        self.live.run(self.live.holds._reserve([call.hold() for call in self.lost]))
        db.execute("DELETE FROM aigcspace.instance WHERE id = $1", self.live.ledger.lease.id)
        self.live.run(self.live.ledger.lease.renew())
        self.live.hold(*self.own)
        self.voided = 0

    @property
    def ended(self) -> list[Call]:
        return self.early + self.own

    def play(self) -> None:
        self.are_over = False
        with ThreadPoolExecutor() as threads:
            reaping = threads.submit(self.reaper.run, self._reaping())
            wait_until(self._has_reaped, what="the reaper came before an outcome")
            others = [threads.submit(self.live.run, self._settling()), threads.submit(self.live.run, self._voiding())]
            others += [threads.submit(replayer.run, self._replaying(replayer)) for replayer in self.replayers]
            for one in others:
                one.result()
            self.are_over = True
            reaping.result()

    def replay(self) -> None:
        for replayer in self.replayers:
            replayer.run(self._replaying(replayer))

    def _calls(self) -> list[Call]:
        """Of two keys of each. Some cost more than they hold, and some less."""
        keys = self.payers + [second_key(self.db, payer) for payer in self.payers]
        calls = []
        for payer in random.choices(keys, k=3 * CALLS):
            cost = Decimal(random.randrange(1, 10**9)).scaleb(-10)
            calls.append(payer.call(str(cost), ceiling=cost * random.choice([0, 1, 1, 2])))
        return calls

    async def _settling(self) -> None:
        async def one(call: Call) -> None:
            await asyncio.sleep(random.random() / 10)
            await self.live.settlement.submit(call.outcome())

        await asyncio.gather(*map(one, self.ended))

    async def _voiding(self) -> None:
        for call in self.lost:
            voiding = select(func.aigcspace.void([call.request_id], 100 * LOCK_WAIT))
            async with self.live.database.autocommit() as connection:
                self.voided += (await connection.execute(voiding)).scalar_one()

    async def _reaping(self) -> None:
        while not self.are_over or self.db.value("SELECT count(*) FROM aigcspace.call_hold"):
            await self.reaper.ledger._recovery._reap()
            await asyncio.sleep(0.002)

    def _has_reaped(self) -> bool:
        early = [call.request_id for call in self.early]
        return bool(self.db.value("SELECT EXISTS (SELECT FROM aigcspace.api_call_log WHERE request_id = ANY ($1))", early))

    async def _replaying(self, replayer: Replica) -> None:
        records = [call.outcome().entry for call in self.ended] * TIMES
        random.shuffle(records)
        while records:
            some, records = records[:30], records[30:]
            await asyncio.gather(*(replayer.settlement.submit(Outcome.read(record)) for record in some))


@pytest.fixture(scope="module")
def started(db: Database) -> Iterator[list[Replica]]:
    with replicas(db.url, 4) as started:
        yield started
        assert [error for replica in started for error in replica.errors if "deadlock" in error] == []
    assert_audit(db)


@pytest.fixture(scope="module")
def changes(db: Database) -> Callable[[], dict[Any, list[str]]]:
    """What was done to each row, as PostgreSQL saw it."""
    db.execute(CHANGES)

    def look() -> dict[Any, list[str]]:
        found = db.fetch("SELECT request_id, array_agg(what ORDER BY what) AS done FROM aigcspace.row_change GROUP BY request_id")
        return {row["request_id"]: row["done"] for row in found}

    return look


@pytest.mark.timeout(scaled(full=1200, short=120))
def test_outcomes_that_come_thrice_against_reaper_and_settler_leave_each_call_one_truth(
    db: Database,
    started: list[Replica],
    changes: Callable[[], dict[Any, list[str]]],
    monkeypatch: pytest.MonkeyPatch,
    tally: Callable[[str, str, int], Tally],
) -> None:
    monkeypatch.setattr(recovery_module, "MOST", 3)  # so that it doesn't come before all the others
    rounds = tally("replays, shuffled, against reaper and settler", "rounds", ROUNDS)
    replayed = tally("replays, shuffled, against reaper and settler", "outcomes", ROUNDS * CALLS * 2 * TIMES * 2)
    amended = tally("replays, shuffled, against reaper and settler", "orphans amended", ROUNDS)
    for _ in range(ROUNDS):
        cast = Cast(db, started)
        cast.play()

        users = [payer.user_id for payer in cast.payers]
        found = {row["request_id"]: row for user in users for row in rows(db, user)}
        done = changes()
        for call in cast.ended:
            row = found.pop(call.request_id)
            assert (row["charge"], row["write_off"], row["status"]) == (call.cost, 0, "success"), call
            assert done[call.request_id] == ["INSERT"] + ["UPDATE"] * (row["amended_at"] is not None), call
            assert row["amended_at"] is None or call in cast.early, call
            amended.add(row["amended_at"] is not None)
        assert found.keys() <= {call.request_id for call in cast.lost}
        assert {(row["charge"], row["end_reason"]) for row in found.values()} <= {(0, "orphaned")}
        assert len(found) + cast.voided == len(cast.lost)
        check_at_rest(db, users)
        cast.replay()
        assert changes() == done
        check_at_rest(db, users)
        rounds.add()
        replayed.add(len(cast.ended) * TIMES * len(cast.replayers))
    assert amended.is_complete


# One race at a time: what waits for the same lock, in the order in which it came


@pytest.fixture
def crowd(background: Background, db: Database) -> Iterator[list[Database]]:
    made = [Database(background, make_url(db.url)) for _ in range(2)]
    yield made
    for one in made:
        one.close()


@pytest.fixture
def payer(db: Database) -> Payer:
    return make_payer(db, credit="10")


@contextmanager
def waiting(db: Database, lock: str, *works: Callable[[], Any]) -> Iterator[list[Future[Any]]]:
    """Each is started when the one before it waits for the lock; they go on when the block, still under the lock, is over."""
    with ThreadPoolExecutor() as threads:
        db.execute("BEGIN")
        try:
            db.execute(lock)
            begun = []
            for number, work in enumerate(works, 1):
                begun.append(threads.submit(work))
                wait_until(lambda: _waiting(db) == number, what="it waits for the lock")  # noqa: B023
            yield begun
        finally:
            db.execute("COMMIT")


def _waiting(db: Database) -> int:
    return int(db.value("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"))


def _account_of(payer: Payer) -> str:
    return f"SELECT FROM aigcspace.account WHERE user_id = '{payer.user_id}' FOR NO KEY UPDATE"


def _settling(connection: Database, call: Call) -> list[Any]:
    return connection.fetch(SETTLE, "UTC", f"[{call.outcome().entry.decode()}]", 20 * PATIENCE)


def _voiding(connection: Database, call: Call) -> int:
    return int(connection.value("SELECT aigcspace.void(ARRAY[$1::uuid], $2)", call.request_id, 20 * PATIENCE))


def test_two_settlements_that_waited_for_one_account_charge_a_call_once(
    db: Database, started: list[Replica], payer: Payer, crowd: list[Database]
) -> None:
    call = payer.call("3", ceiling=Decimal(4))
    started[0].hold(call)

    with waiting(db, _account_of(payer), *(partial(_settling, one, call) for one in crowd)) as settled:
        pass

    assert [len(one.result()) for one in settled] == [1, 0]
    assert (account(db, payer.user_id)["spent"], account(db, payer.user_id)["held"]) == (3, 0)
    check_at_rest(db, [payer.user_id])


@pytest.mark.parametrize("first", ["settled", "voided"])
def test_a_call_is_freed_once_by_settlement_and_voiding(
    db: Database, started: list[Replica], payer: Payer, crowd: list[Database], first: str
) -> None:
    call, other = payer.call("3", ceiling=Decimal(4)), payer.call("2")
    started[0].hold(call, other)
    works = [partial(_settling, crowd[0], call), partial(_voiding, crowd[1], call)]

    with waiting(db, _account_of(payer), *(works if first == "settled" else works[::-1])) as begun:
        pass

    voided = begun[first == "settled"].result()
    assert voided == (first == "voided")
    assert [row["charge"] for row in rows(db, payer.user_id)] == [3]
    assert (account(db, payer.user_id)["spent"], account(db, payer.user_id)["held"]) == (3, 2)
    started[0].settle(other)
    check_at_rest(db, [payer.user_id])


def test_two_keys_whose_settlements_waited_for_one_account_share_what_is_free(
    db: Database, started: list[Replica], payer: Payer, crowd: list[Database]
) -> None:
    calls = [key.call("7.00005", ceiling=Decimal(0)) for key in (payer, second_key(db, payer))]
    started[0].hold(*calls)

    with waiting(db, _account_of(payer), *(partial(_settling, one, call) for one, call in zip(crowd, calls, strict=True))):
        pass

    paid = [(row["charge"], row["bill"], row["write_off"]) for row in rows(db, payer.user_id)]
    assert paid == [(Decimal("7.00005"), Decimal("7.0001"), 0), (Decimal("2.99995"), Decimal("2.9999"), Decimal("4.0001"))]
    check_at_rest(db, [payer.user_id])


def test_two_keys_whose_reservations_waited_for_one_account_are_not_both_granted_its_last_credit(
    db: Database, started: list[Replica], payer: Payer
) -> None:
    calls = [payer.call("6"), second_key(db, payer).call("6")]
    works = [partial(replica.outcomes, call) for replica, call in zip(started, calls, strict=False)]

    with waiting(db, _account_of(payer), *works) as begun:
        pass

    answers = [one.result() for one in begun]
    assert sorted(answers) == [["credit"], ["granted"]]
    assert account(db, payer.user_id)["held"] == 6
    started[0].settle(calls[answers.index(["granted"])])


def test_a_reaper_that_waited_leaves_alone_what_was_voided_meanwhile(
    db: Database, started: list[Replica], payer: Payer, crowd: list[Database]
) -> None:
    call = payer.call("3")
    started[0].hold(call)
    db.execute("DELETE FROM aigcspace.instance WHERE id = $1", started[0].ledger.lease.id)
    started[0].run(started[0].ledger.lease.renew())
    user = f"SELECT FROM aigcspace.users WHERE id = '{payer.user_id}' FOR UPDATE"

    with waiting(db, user, partial(crowd[0].fetch, "SELECT * FROM aigcspace.reap(200, 20000, 'UTC')")) as reaped:
        assert _voiding(db, call) == 1

    assert reaped[0].result() == []
    assert (holds(db, payer.user_id), account(db, payer.user_id)["held"]) == (0, 0)
    check_at_rest(db, [payer.user_id])
