"""Calls that go on in the background, as the ledger sees them: held by nobody, ended once."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest

from app.ledger.background import BackgroundCalls
from tests.harness.books import wait_until
from tests.harness.fault_books import assert_audit
from tests.harness.postgres import Database
from tests.ledger.calls import Call, Payer, account, holds, make_payer, rows
from tests.ledger.replica import Replica, replicas

DEFERRED = {"upstream_id": 1, "object_id": "resp_1", "terms": {"started": 0}}


@pytest.fixture
def replica(db: Database, tmp_path: Path) -> Iterator[Replica]:
    running = Replica(db.url, lease=0.6)
    yield running
    running.close()


@pytest.fixture
def payer(db: Database) -> Payer:
    return make_payer(db, credit="10")


def deferred(call: Call) -> Call:
    return call.using(cost="0", deferred=DEFERRED, objects=["resp_1", "msg_1"], upstream_id=1)


def ended(call: Call) -> Call:
    return call.using(was_deferred=True)


def waiting(db: Database, payer: Payer) -> int:
    return int(db.value("SELECT count(*) FROM aigcspace.background_call WHERE user_id = $1", payer.user_id))


def test_a_deferred_call_keeps_its_hold_and_ends_once(db: Database, replica: Replica, payer: Payer) -> None:
    call = payer.call("2", ceiling=Decimal(3))
    replica.hold(call)
    replica.settle(deferred(call))
    assert (holds(db, payer.user_id), waiting(db, payer), rows(db, payer.user_id)) == (1, 1, [])
    assert account(db, payer.user_id)["available"] == 7

    for again in (ended(call), deferred(call), ended(call), deferred(call)):  # replays of a spool
        replica.settle(again)

    assert (holds(db, payer.user_id), waiting(db, payer)) == (0, 0)
    assert [row["charge"] for row in rows(db, payer.user_id)] == [2]
    assert account(db, payer.user_id)["available"] == 8
    assert_audit(db)


def test_a_deferral_in_one_batch_with_its_end_changes_nothing(db: Database, replica: Replica, payer: Payer) -> None:
    call = payer.call("2")
    replica.hold(call)
    replica.settle(deferred(call))

    replica.settle(deferred(call), ended(call), deferred(call))
    replica.settle(ended(call))

    assert (holds(db, payer.user_id), waiting(db, payer)) == (0, 0)
    assert [row["charge"] for row in rows(db, payer.user_id)] == [2]


def test_nobody_ends_it_for_a_lease(db: Database, replica: Replica, payer: Payer) -> None:
    """Neither is it voided by its own process, which no longer owns it, nor reaped by others."""
    going, orphan = payer.call("2"), payer.call("1")
    gone = Replica(db.url, lease=0.6)
    gone.hold(going, orphan)
    gone.settle(deferred(going))
    gone.close()

    wait_until(lambda: rows(db, payer.user_id), what="the reaper has been here")

    assert [row["end_reason"] for row in rows(db, payer.user_id)] == ["orphaned"]
    assert (holds(db, payer.user_id), waiting(db, payer)) == (1, 1)
    assert_audit(db)
    replica.settle(ended(going))
    assert account(db, payer.user_id)["available"] == 8


def test_one_that_goes_on_while_its_process_looks_whose_it_is_is_not_voided(
    db: Database, payer: Payer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with replicas(db.url, 2) as (holder, other):
        going, lost = payer.call("2"), payer.call("1")
        holder.hold(going, lost)

        def owns(request_id: UUID) -> bool:
            if request_id == going.request_id:
                other.settle(deferred(going))
            return False

        monkeypatch.setattr(holder.holds, "owns", owns)
        holder.run(holder.ledger._recovery._void_unowned())

        assert (holds(db, payer.user_id), waiting(db, payer)) == (1, 1), "only the one that is nobody's is voided"
        holder.settle(ended(going))
    assert [row["charge"] for row in rows(db, payer.user_id)] == [2]
    assert_audit(db)


def test_a_deferral_that_comes_late_amends_its_orphan_in_the_end(db: Database, replica: Replica, payer: Payer) -> None:
    call = payer.call("2")
    gone = Replica(db.url, lease=0.6)
    gone.hold(call)
    gone.close()
    wait_until(lambda: rows(db, payer.user_id), what="it was ended as orphaned")

    replica.settle(deferred(call))
    assert waiting(db, payer) == 1
    replica.settle(ended(call))

    [row] = rows(db, payer.user_id)
    assert (row["charge"], row["amended_at"] is not None, waiting(db, payer)) == (2, True, 0)
    assert_audit(db)


def test_what_is_kept_is_its_users(db: Database, replica: Replica, payer: Payer) -> None:
    other = make_payer(db, credit="10")
    for user in (payer, other):
        call = user.call("1")
        replica.hold(call)
        replica.settle(deferred(call))

    kept = db.fetch("SELECT object_id, user_id FROM aigcspace.upstream_object WHERE user_id = ANY ($1)", [payer.user_id, other.user_id])
    assert {(row["object_id"], row["user_id"]) for row in kept} == {
        (object_id, user.user_id) for object_id in ("resp_1", "msg_1") for user in (payer, other)
    }


def test_each_is_taken_by_one_and_put_off(db: Database, replica: Replica, payer: Payer) -> None:
    call = payer.call("1")
    replica.hold(call)
    replica.settle(deferred(call))
    calls = BackgroundCalls(replica.database)
    db.execute("UPDATE aigcspace.background_call SET next_look = clock_timestamp() WHERE request_id = $1", call.request_id)

    [taken] = [one for one in replica.run(calls.take_due(most=1000)) if one.request_id == call.request_id]

    assert (taken.object_id, taken.looks, taken.entry["user_id"]) == ("resp_1", 1, payer.user_id)
    assert not [one for one in replica.run(calls.take_due(most=1000)) if one.request_id == call.request_id]


def test_a_purged_user_leaves_none(db: Database, replica: Replica, payer: Payer) -> None:
    call = payer.call("1")
    replica.hold(call)
    replica.settle(deferred(call))

    db.execute("DELETE FROM aigcspace.users WHERE id = $1", payer.user_id)
    replica.settle(ended(call))

    assert waiting(db, payer) == 0
    assert db.value("SELECT count(*) FROM aigcspace.upstream_object WHERE user_id = $1", payer.user_id) == 0
