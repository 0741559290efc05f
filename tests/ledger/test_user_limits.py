"""Limits of users, over all their keys: their own, else those of their group; and what may be spent in a day and a month."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from tests.harness.postgres import Database
from tests.ledger.calls import Payer, account, make_key, meter
from tests.ledger.replica import Replica

NewPayer = Callable[..., Payer]


def limit(db: Database, payer: Payer, **limits: Any) -> None:
    columns = ", ".join(["user_id", *limits])
    values = ", ".join(f"${number}" for number in range(1, len(limits) + 2))
    db.execute(f"INSERT INTO aigcspace.user_policy ({columns}) VALUES ({values})", payer.user_id, *limits.values())


def group(db: Database, payer: Payer, **limits: Any) -> None:
    columns = ", ".join(["name", *limits])
    values = ", ".join(f"${number}" for number in range(1, len(limits) + 2))
    made = db.value(f"INSERT INTO aigcspace.spend_group ({columns}) VALUES ({values}) RETURNING id", payer.user_id, *limits.values())
    limit(db, payer, group_id=made)


def second_key(db: Database, payer: Payer) -> Payer:
    return Payer(payer.user_id, make_key(db, payer.user_id))


@pytest.mark.parametrize("set_limit", [limit, group])
def test_requests_of_all_keys_count(ledger: Replica, db: Database, new_payer: NewPayer, set_limit: Callable[..., None]) -> None:
    payer = new_payer(credit="100")
    set_limit(db, payer, rpm=3)
    other = second_key(db, payer)

    decisions = ledger.reserve(payer.call("1"), other.call("2"), payer.call("3"), other.call("4"))

    assert [decision.outcome for decision in decisions] == ["granted"] * 3 + ["user_rpm"]
    assert decisions[3].retry_after == pytest.approx(20)
    assert [(decision.requests.limit, decision.requests.left) for decision in decisions[:3]] == [(3, 2), (3, 1), (3, 0)]


def test_calls_in_flight_of_all_keys_count(ledger: Replica, db: Database, new_payer: NewPayer) -> None:
    payer = new_payer(credit="100")
    limit(db, payer, max_concurrency=2)
    other = second_key(db, payer)
    first = payer.call("1")
    ledger.hold(first)

    assert ledger.outcomes(payer.call("2"), other.call("3")) == ["granted", "user_max_concurrency"]
    ledger.settle(first)
    assert ledger.outcomes(other.call("1"), other.call("1")) == ["granted", "user_max_concurrency"]


def test_tokens_of_all_keys_count_and_may_leave_a_debt(ledger: Replica, db: Database, new_payer: NewPayer) -> None:
    payer = new_payer(credit="100")
    limit(db, payer, tpm=600)
    call = payer.call("1", tokens=500)
    ledger.hold(call)
    assert ledger.outcomes(second_key(db, payer).call("1", tokens=200)) == ["user_tpm"]

    ledger.settle(call.using(input_tokens=900, output_tokens=300))

    assert account(db, payer.user_id)["token_level"] == 1200
    (refused,) = ledger.reserve(payer.call("1", tokens=1))
    assert (refused.outcome, refused.retry_after) == ("user_tpm", pytest.approx(60, abs=1))


def test_a_users_own_limit_stands_before_their_groups(ledger: Replica, db: Database, new_payer: NewPayer) -> None:
    payer = new_payer(credit="100")
    group(db, payer, rpm=1, max_concurrency=2)
    db.execute("UPDATE aigcspace.user_policy SET rpm = 100 WHERE user_id = $1", payer.user_id)

    assert ledger.outcomes(*(payer.call(str(cost)) for cost in (1, 2, 3))) == ["granted", "granted", "user_max_concurrency"]


def test_the_tighter_limit_is_told(ledger: Replica, db: Database, new_payer: NewPayer) -> None:
    payer = new_payer(credit="100", rpm=10, tpm=50)
    limit(db, payer, rpm=5, tpm=1000)

    (decision,) = ledger.reserve(payer.call("1", tokens=20))

    assert (decision.requests.limit, decision.requests.left) == (5, 4)
    assert (decision.tokens.limit, decision.tokens.left) == (50, 30)


@pytest.mark.parametrize("period", ["daily_limit", "monthly_limit"])
@pytest.mark.parametrize("of_key", [True, False])
def test_what_may_be_spent_in_a_period(ledger: Replica, db: Database, new_payer: NewPayer, period: str, of_key: bool) -> None:
    """What is held counts as spent; what was spent before the period doesn't."""
    payer = new_payer(credit="100", **({period: Decimal(5)} if of_key else {}))
    if not of_key:
        limit(db, payer, **{period: Decimal(5)})
    refused = "spend_limit" if of_key else "user_spend_limit"
    spent, held = payer.call("2", ceiling=Decimal(5)), payer.call("3")

    ledger.hold(spent)
    assert ledger.outcomes(payer.call("1")) == [refused]
    ledger.settle(spent)
    ledger.hold(held)
    assert ledger.outcomes(payer.call("0.1")) == [refused]
    ledger.settle(held)
    assert ledger.outcomes(payer.call("0.1")) == [refused]

    for table, key in (("account", "user_id"), ("key_meter", "key_id")):
        owner = payer.user_id if key == "user_id" else payer.key_id
        db.execute(f"UPDATE aigcspace.{table} SET spent_on = spent_on - interval '1 month' WHERE {key} = $1", owner)
    assert ledger.outcomes(payer.call("5"), payer.call("6")) == ["granted", refused]


def test_a_new_day_is_not_a_new_month(ledger: Replica, db: Database, new_payer: NewPayer) -> None:
    payer = new_payer(credit="100", daily_limit=Decimal(5), monthly_limit=Decimal(8))
    call = payer.call("5")
    ledger.hold(call)
    ledger.settle(call)
    today = db.value("SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date")
    another = today.replace(day=2 if today.day == 1 else 1)
    db.execute("UPDATE aigcspace.key_meter SET spent_on = $2 WHERE key_id = $1", payer.key_id, another)

    assert ledger.outcomes(payer.call("4")) == ["spend_limit"]
    again = payer.call("3")
    ledger.hold(again)
    ledger.settle(again)

    kept = meter(db, payer.key_id)
    assert (kept["day_spent"], kept["month_spent"], kept["spent_on"]) == (3, 8, today)
