"""Who dies leaves its calls to others: they end once, as what is known of them, and a late truth amends them once."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from uuid import uuid4

import pytest

from app.ledger.lease import Lease
from tests.harness.books import wait_until
from tests.harness.postgres import Database
from tests.ledger.calls import Call, Payer, account, holds, meter, rows
from tests.ledger.locks import locked
from tests.ledger.replica import Replica

LEASE = 0.6


@pytest.fixture
def survivor(db: Database) -> Iterator[Replica]:
    replica = Replica(db.url, lease=LEASE)
    yield replica
    replica.close()


@contextmanager
def dead(db: Database, *calls: Call) -> Iterator[None]:
    """A process that holds calls and is gone without a word."""
    replica = Replica(db.url)
    replica.hold(*calls)
    replica.close()
    db.execute("UPDATE aigcspace.instance SET lease_until = clock_timestamp() WHERE id = $1", replica.ledger.lease.id)
    yield


def orphaned(db: Database, payer: Payer) -> list[dict[str, object]]:
    wait_until(lambda: holds(db, payer.user_id) == 0, what="holds of the dead have ended")
    return rows(db, payer.user_id)


def test_calls_of_a_dead_process_end_as_failed_rows_that_cost_nothing(
    db: Database, new_payer: Callable[..., Payer], survivor: Replica
) -> None:
    payer = new_payer(credit="10")
    calls = [payer.call("1") for _ in range(5)]

    with dead(db, *calls):
        ended = orphaned(db, payer)

    assert {row["request_id"] for row in ended} == {call.request_id for call in calls}
    assert {(row["status"], row["end_reason"], row["bill"], row["charge"], row["amended_at"]) for row in ended} == {
        ("failed", "orphaned", 0, 0, None)
    }
    assert account(db, payer.user_id)["held"] == 0
    assert (meter(db, payer.key_id)["in_flight"], meter(db, payer.key_id)["held"]) == (0, 0)


def test_a_late_truth_amends_its_orphan_once(db: Database, new_payer: Callable[..., Payer], survivor: Replica) -> None:
    payer = new_payer(credit="10")
    call = payer.call("1.25")
    with dead(db, call):
        (before,) = orphaned(db, payer)

    for truth in (call, call, payer.call("9", request_id=call.request_id)):
        survivor.settle(truth)

    (row,) = rows(db, payer.user_id)
    assert (row["status"], row["charge"], row["bill"], row["input_tokens"]) == ("success", Decimal("1.25"), Decimal("1.25"), 10)
    assert row["amended_at"] is not None
    assert (row["id"], row["created_at"], row["settled_at"]) == (before["id"], before["created_at"], before["settled_at"])
    assert account(db, payer.user_id)["spent"] == Decimal("1.25")


def test_an_orphan_said_again_changes_nothing(db: Database, new_payer: Callable[..., Payer], survivor: Replica) -> None:
    payer = new_payer(credit="10")
    call = payer.call("1")
    with dead(db, call):
        (before,) = orphaned(db, payer)

    survivor.settle(call.using(cost="0", status="failed", end_reason="orphaned"))

    assert rows(db, payer.user_id) == [before]


def test_a_late_truth_is_paid_from_what_is_free_and_the_rest_is_written_off(
    db: Database, new_payer: Callable[..., Payer], survivor: Replica
) -> None:
    payer = new_payer(credit="10")
    late, running = payer.call("8"), payer.call("7")
    with dead(db, late):
        orphaned(db, payer)
    survivor.hold(running)

    survivor.settle(late)
    survivor.settle(running)

    (row,) = [row for row in rows(db, payer.user_id) if row["request_id"] == late.request_id]
    assert (row["charge"], row["write_off"]) == (3, 5)
    assert account(db, payer.user_id)["available"] == 0


def test_the_living_are_never_reaped(db: Database, new_payer: Callable[..., Payer], survivor: Replica) -> None:
    payer, gone = new_payer(credit="10"), new_payer(credit="10")
    call, lost = payer.call("1"), gone.call("1")
    other = Replica(db.url, lease=LEASE)
    other.hold(call)

    for _ in range(3):  # each takes more than a lease
        with dead(db, lost):
            orphaned(db, gone)
        lost = gone.call("1")

    assert holds(db, payer.user_id) == 1
    other.settle(call)
    assert rows(db, payer.user_id)[0]["amended_at"] is None
    other.close()


def test_a_process_that_was_declared_dead_goes_on_under_a_new_id(db: Database, new_payer: Callable[..., Payer], survivor: Replica) -> None:
    payer = new_payer(credit="10")
    paused = Replica(db.url, lease=LEASE)
    before, during = payer.call("1"), payer.call("1")
    paused.hold(before)
    first = paused.ledger.lease.id

    db.execute("DELETE FROM aigcspace.instance WHERE id = $1", first)
    (row,) = orphaned(db, payer)
    wait_until(lambda: paused.ledger.lease.id != first, what="the process has noticed")
    paused.hold(during)
    paused.settle(before, during)

    assert row["end_reason"] == "orphaned"
    assert [bool(row["amended_at"]) for row in rows(db, payer.user_id)] == [True, False]
    paused.close()


def test_a_burial_that_comes_late_buries_nobody(ledger: Replica, db: Database) -> None:
    own, another = Lease(ledger.database, seconds=3), uuid4()
    ledger.run(own.renew())
    db.execute("INSERT INTO aigcspace.instance (id, host, process_id, lease_until) VALUES ($1, '', 1, now())", another)

    time.sleep(1.1)
    assert ledger.run(own.bury()) == [], "more than a third of a lease after the renewal"
    ledger.run(own.renew())
    db.execute("UPDATE aigcspace.instance SET lease_until = now() + interval '3 s' WHERE id = $1", own.id)
    assert ledger.run(own.bury()) == [], "after another renewal, whose answer isn't here yet"
    ledger.run(own.renew())
    assert another in ledger.run(own.bury())
    ledger.run(own.give_up())


def test_whoever_was_out_of_touch_buries_nobody_for_a_lease(ledger: Replica, db: Database) -> None:
    lease = 3.0
    own = Lease(ledger.database, seconds=lease)

    def renewed() -> bool:
        ledger.run(own.renew())
        return own.may_bury

    wait_until(renewed, what="it has been in touch for a lease")
    with locked(db, "instance", "id", own.id) as unlock:
        late = ThreadPoolExecutor(1).submit(renewed)
        time.sleep(lease * 0.8)
        unlock()

    assert not late.result(10)
    assert own.is_unbroken, "it was away for less than a lease"
    wait_until(renewed, what="it has been in touch for another lease")
    ledger.run(own.give_up())


def test_nothing_is_held_without_a_lease(db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="10")
    cut_off = Replica(db.url, lease=60)

    def is_refused() -> bool:
        db.execute("UPDATE aigcspace.instance SET lease_until = now() - interval '1 s' WHERE id = $1", cut_off.ledger.lease.id)
        return not _is_granted(cut_off, payer)

    wait_until(is_refused, what="a call is refused before the lease is renewed, as it is at the start")
    assert holds(db, payer.user_id) == 0
    wait_until(lambda: _is_granted(cut_off, payer), what="the lease has been renewed at once, long before it was due")
    cut_off.close()


def _is_granted(replica: Replica, payer: Payer) -> bool:
    call = payer.call("1")
    try:
        replica.hold(call)
    except Exception:  # noqa: BLE001
        return False
    replica.settle(call)
    return True


def test_a_hold_whose_reservation_was_never_answered_is_voided_without_a_row(
    db: Database, new_payer: Callable[..., Payer], survivor: Replica
) -> None:
    payer = new_payer(credit="10")
    lost, owned = payer.call("2", tokens=50), payer.call("3")
    survivor.hold(owned)
    granted = survivor.run(survivor.holds._reserve([lost.hold()]))  # as if the answer had not come back
    assert [decision.outcome for decision in granted] == ["granted"]

    wait_until(lambda: holds(db, payer.user_id) == 1, what="the lost hold is void")

    assert rows(db, payer.user_id) == []
    assert (account(db, payer.user_id)["held"], meter(db, payer.key_id)["in_flight"]) == (3, 1)
    survivor.settle(owned)


def test_many_processes_reap_each_call_once(db: Database, new_payer: Callable[..., Payer]) -> None:
    payers = [new_payer(credit="100") for _ in range(5)]
    calls = [payer.call("0.1") for payer in payers for _ in range(100)]
    with dead(db, *calls):
        reapers = [Replica(db.url, lease=LEASE) for _ in range(3)]
        for payer in payers:
            assert len(orphaned(db, payer)) == 100
        for reaper in reapers:
            reaper.close()
