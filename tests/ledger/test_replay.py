"""Settling again changes nothing: not in another order, not in another batch, not beside itself."""

import random
from collections.abc import Callable
from typing import Any

from tests.harness.postgres import Database
from tests.ledger.calls import Call, Payer, account, holds, meter, rows
from tests.ledger.replica import Replica
from tests.ledger.sums import check_at_rest


def state(db: Database, payers: list[Payer]) -> list[Any]:
    """All that the ledger knows of them."""
    hours = "SELECT * FROM aigcspace.usage_hourly WHERE user_id = $1 ORDER BY hour, model_name"
    return [
        (account(db, payer.user_id), meter(db, payer.key_id), rows(db, payer.user_id), db.fetch(hours, payer.user_id)) for payer in payers
    ]


def test_outcomes_that_come_again_in_another_order_change_nothing(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payers = [new_payer(credit="10") for _ in range(3)]
    calls = [payer.call(f"0.0000{number}7") for payer in payers for number in range(1, 60)]
    ledger.hold(*calls)
    ledger.settle(*calls)
    before = state(db, payers)

    ledger.settle(*random.sample(calls, len(calls)))

    assert state(db, payers) == before
    check_at_rest(db, [payer.user_id for payer in payers])


def test_a_replay_beside_new_calls_leaves_the_new_ones_alone(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="10")
    old, new = payer.call("1"), payer.call("2")
    ledger.hold(old, new)
    ledger.settle(old)

    ledger.settle(new, old)

    assert [row["charge"] for row in rows(db, payer.user_id)] == [1, 2]
    assert account(db, payer.user_id)["spent"] == 3


def test_the_same_outcome_twice_in_one_batch_is_paid_once(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="10")
    call, other = payer.call("1"), payer.call("2")
    ledger.hold(call, other)

    ledger.settle(call, other, call, call)

    assert ledger.errors == []
    assert [row["charge"] for row in rows(db, payer.user_id)] == [1, 2]
    check_at_rest(db, [payer.user_id])


def test_a_call_is_not_charged_again_at_another_cost(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="10")
    call = payer.call("1")
    ledger.hold(call)
    ledger.settle(call)

    ledger.settle(Call(payer.user_id, payer.key_id, cost=call.cost * 5, request_id=call.request_id))

    assert account(db, payer.user_id)["spent"] == 1


def test_a_replay_frees_no_hold_of_another_call(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="10")
    ended, running = payer.call("1"), payer.call("4")
    ledger.hold(ended, running)

    for _ in range(3):
        ledger.settle(ended)

    assert holds(db, payer.user_id) == 1
    assert account(db, payer.user_id)["held"] == 4
    assert meter(db, payer.key_id)["in_flight"] == 1
