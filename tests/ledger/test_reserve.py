"""A hold: the ceiling set aside, or nothing at all. Many at once are granted from the smallest up."""

import random
from collections.abc import Callable
from decimal import Decimal

import pytest

from tests.harness.postgres import Database
from tests.ledger.calls import Payer, account, holds, make_key, meter
from tests.ledger.replica import Replica


def test_a_hold_sets_its_ceiling_aside(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="10")

    (decision,) = ledger.reserve(payer.call("3.0000000001", tokens=70))

    assert (decision.outcome, decision.available, decision.retry_after) == ("granted", 10, None)
    after = account(db, payer.user_id)
    assert (after["held"], after["spent"], after["available"]) == (Decimal("3.0000000001"), 0, Decimal("6.9999999999"))
    assert (meter(db, payer.key_id)["held"], meter(db, payer.key_id)["in_flight"]) == (Decimal("3.0000000001"), 1)


def test_a_hold_keeps_what_its_row_needs(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="10")
    call = payer.call("3", tokens=70)

    ledger.hold(call)

    hold = db.one("SELECT * FROM aigcspace.call_hold WHERE request_id = $1", call.request_id)
    assert (hold["user_id"], hold["api_key_id"], hold["amount"], hold["tokens"]) == (payer.user_id, payer.key_id, 3, 70)
    assert hold["entry"] == db.value("SELECT $1::text::jsonb", call.hold().entry)


def test_one_big_call_refuses_no_small_one(ledger: Replica, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="10")
    big, small = payer.call("9.5"), [payer.call("1") for _ in range(10)]

    assert ledger.outcomes(big, *small) == ["credit"] + ["granted"] * 10


def test_calls_are_granted_from_the_smallest_up_whatever_their_order(ledger: Replica, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="10")
    calls = [payer.call(str(cost)) for cost in (1, 2, 3, 4, 5, 6)]
    random.shuffle(calls)

    outcomes = dict(zip((call.cost for call in calls), ledger.outcomes(*calls), strict=True))

    assert outcomes == {1: "granted", 2: "granted", 3: "granted", 4: "granted", 5: "credit", 6: "credit"}


def test_all_of_the_credit_can_be_held_and_not_one_unit_more(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="1")

    assert ledger.outcomes(payer.call("0.9999999999"), payer.call("0.0000000002")) == ["credit", "granted"]
    assert ledger.outcomes(payer.call("0.9999999998")) == ["granted"]
    assert ledger.outcomes(payer.call("0.0000000001")) == ["credit"]
    assert account(db, payer.user_id)["available"] == 0


@pytest.mark.parametrize(("credit", "granted"), [("0.0369", 36), ("0.037", 37), ("0.0371", 37)])
def test_exactly_as_many_equal_calls_are_granted_as_fit(
    ledger: Replica, db: Database, new_payer: Callable[..., Payer], credit: str, granted: int
) -> None:
    payer = new_payer(credit=credit)

    outcomes = ledger.outcomes(*(payer.call("0.001") for _ in range(200)))

    assert sorted(outcomes) == ["credit"] * (200 - granted) + ["granted"] * granted
    assert holds(db, payer.user_id) == granted


def test_one_account_in_a_batch_does_not_pay_for_another(ledger: Replica, new_payer: Callable[..., Payer]) -> None:
    rich, poor = new_payer(credit="10"), new_payer(credit="0")

    assert ledger.outcomes(poor.call("1"), rich.call("10"), poor.call("0.1")) == ["credit", "granted", "credit"]


def test_two_keys_of_one_account_share_its_credit(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="3")
    other = Payer(payer.user_id, make_key(db, payer.user_id))

    assert ledger.outcomes(payer.call("2"), other.call("1.5"), other.call("1")) == ["credit", "granted", "granted"]


def test_a_credit_limit_may_be_held_too(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="1", credit_limit="4")

    assert ledger.outcomes(payer.call("5"), payer.call("1")) == ["credit", "granted"]
    assert ledger.outcomes(payer.call("4")) == ["granted"]
    assert account(db, payer.user_id)["available"] == 0


def test_a_free_call_needs_no_credit(ledger: Replica, new_payer: Callable[..., Payer]) -> None:
    assert ledger.outcomes(new_payer().call("0")) == ["granted"]


def test_a_refused_call_holds_nothing_and_hears_what_is_available(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="1.5", rpm=100, tpm=1000)
    before = meter(db, payer.key_id)

    (decision,) = ledger.reserve(payer.call("2", tokens=10))

    assert (decision.outcome, decision.available) == ("credit", Decimal("1.5"))
    assert (holds(db, payer.user_id), account(db, payer.user_id)["held"], meter(db, payer.key_id)) == (0, 0, before)


def test_settling_gives_back_what_was_not_spent(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="10")
    call = payer.call("0.25", ceiling=Decimal(10))
    ledger.hold(call)
    assert ledger.outcomes(payer.call("1")) == ["credit"]

    ledger.settle(call)

    assert ledger.outcomes(payer.call("9.75")) == ["granted"]
    assert meter(db, payer.key_id)["in_flight"] == 1
