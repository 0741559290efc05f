"""Why a call is refused: the reason that its caller can do something about, and when to come back."""

import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from tests.harness.postgres import Database
from tests.ledger.calls import Call, Payer, account, holds, make_key, meter
from tests.ledger.replica import Replica

HOUR = timedelta(hours=1)


def wait(db: Database, payer: Payer, seconds: float) -> None:
    """As if so much time had passed since the key was last used."""
    sql = "UPDATE aigcspace.key_meter SET drained_at = drained_at - make_interval(secs => $2) WHERE key_id = $1"
    db.execute(sql, payer.key_id, seconds)


@pytest.mark.parametrize(
    ("reason", "policy"),
    [
        ("key_disabled", {"disabled_at": datetime(2026, 1, 1, tzinfo=UTC)}),
        ("key_expired", {"expires_at": datetime(2026, 1, 1, tzinfo=UTC)}),
    ],
)
def test_a_key_that_is_no_longer_valid(
    ledger: Replica, db: Database, new_payer: Callable[..., Payer], reason: str, policy: dict[str, datetime]
) -> None:
    payer = new_payer(credit="10", **policy)

    assert ledger.outcomes(payer.call("1"), payer.call("0")) == [reason, reason]
    assert holds(db, payer.user_id) == 0


def test_a_key_that_expires_later_is_valid(ledger: Replica, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="10", expires_at=datetime.now(UTC) + HOUR)

    assert ledger.outcomes(payer.call("1")) == ["granted"]


def test_a_disabled_user(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="10")
    db.execute("UPDATE aigcspace.account SET disabled_at = now() WHERE user_id = $1", payer.user_id)

    assert ledger.outcomes(payer.call("1")) == ["user_disabled"]


def test_a_key_that_was_deleted(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="10")
    db.execute("DELETE FROM aigcspace.platform_api_key WHERE id = $1", payer.key_id)

    assert ledger.outcomes(payer.call("1")) == ["key_gone"]


def test_a_key_of_another_user(ledger: Replica, new_payer: Callable[..., Payer]) -> None:
    payer, thief = new_payer(credit="10"), new_payer(credit="10")

    assert ledger.outcomes(Call(thief.user_id, payer.key_id, Decimal(1)), payer.call("1")) == ["key_gone", "granted"]


def test_a_key_whose_secret_was_changed_since(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="10")
    db.execute("UPDATE aigcspace.platform_api_key SET key_hash = $2 WHERE id = $1", payer.key_id, "0" * 64)

    assert ledger.outcomes(payer.call("1")) == ["key_gone"]


@pytest.mark.parametrize(
    ("left", "of_key", "outcome"),
    [("1 hour", "own", "granted"), ("0 seconds", "own", "key_gone"), ("1 hour", "another", "key_gone"), (None, "own", "key_gone")],
)
def test_a_secret_that_was_replaced_opens_its_own_key_for_as_long_as_it_may(
    ledger: Replica, db: Database, new_payer: Callable[..., Payer], left: str | None, of_key: str, outcome: str
) -> None:
    payer, other = new_payer(credit="10"), new_payer(credit="10")
    old, new = secrets.token_hex(32), secrets.token_hex(32)
    db.execute("UPDATE aigcspace.platform_api_key SET key_hash = $2 WHERE id = $1", payer.key_id, new)
    if left is not None:
        retire = f"INSERT INTO aigcspace.retired_secret (key_id, key_hash, valid_until) VALUES ($1, $2, clock_timestamp() + '{left}')"
        db.execute(retire, payer.key_id if of_key == "own" else other.key_id, old)

    assert ledger.outcomes(payer.call("1", key_hash=new), payer.call("1", key_hash=old)) == ["granted", outcome]


def test_a_user_who_is_gone(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="10")
    db.execute("DELETE FROM aigcspace.users WHERE id = $1", payer.user_id)

    (decision,) = ledger.reserve(payer.call("1"))

    assert (decision.outcome, decision.available) == ("user_gone", None)


def test_a_spend_limit_counts_what_is_held_and_what_is_spent(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="100", spend_limit=Decimal(5))
    spent = payer.call("1", ceiling=Decimal(3))
    ledger.hold(spent)
    assert ledger.outcomes(payer.call("2.0000000001")) == ["spend_limit"]

    ledger.settle(spent)

    assert ledger.outcomes(payer.call("4.0000000001"), payer.call("4")) == ["spend_limit", "granted"]
    assert meter(db, payer.key_id)["held"] + meter(db, payer.key_id)["spent"] == 5


def test_a_spend_limit_of_zero_lets_only_free_calls_through(ledger: Replica, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="100", spend_limit=Decimal(0))

    assert ledger.outcomes(payer.call("0.0000000001"), payer.call("0")) == ["spend_limit", "granted"]


def test_as_many_in_flight_as_the_key_may(ledger: Replica, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="100", max_concurrency=2)
    first = payer.call("1")
    ledger.hold(first)

    decisions = ledger.reserve(payer.call("1"), payer.call("1"))

    assert sorted(decision.outcome for decision in decisions) == ["granted", "max_concurrency"]
    assert all(decision.retry_after > 0 for decision in decisions if decision.outcome != "granted")
    ledger.settle(first)
    assert ledger.outcomes(payer.call("1"), payer.call("2")) == ["granted", "max_concurrency"]


def test_requests_a_minute(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="100", rpm=3)

    decisions = ledger.reserve(*(payer.call(str(cost)) for cost in (1, 2, 3, 4, 5)))

    assert [decision.outcome for decision in decisions] == ["granted"] * 3 + ["rpm"] * 2
    assert [decision.retry_after for decision in decisions[3:]] == [pytest.approx(20), pytest.approx(40)]
    assert meter(db, payer.key_id)["request_level"] == 3


def test_a_refused_rate_passes_after_the_time_that_was_said_and_not_before(
    ledger: Replica, db: Database, new_payer: Callable[..., Payer]
) -> None:
    payer = new_payer(credit="100", rpm=3)
    ledger.hold(*(payer.call("1") for _ in range(3)))
    (refused,) = ledger.reserve(payer.call("1"))

    wait(db, payer, refused.retry_after - 2)
    assert ledger.outcomes(payer.call("1")) == ["rpm"]
    wait(db, payer, 2)
    assert ledger.outcomes(payer.call("1")) == ["granted"]


def test_tokens_a_minute(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="100", tpm=600)
    ledger.hold(payer.call("1", tokens=500))

    (refused,) = ledger.reserve(payer.call("1", tokens=200))

    assert (refused.outcome, refused.retry_after) == ("tpm", pytest.approx(10, abs=1))
    wait(db, payer, refused.retry_after)
    assert ledger.outcomes(payer.call("1", tokens=200)) == ["granted"]


def test_one_call_larger_than_the_limit_passes_when_nothing_else_does(ledger: Replica, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="100", tpm=600)

    assert ledger.outcomes(payer.call("1", tokens=5000)) == ["granted"]
    assert ledger.outcomes(payer.call("1", tokens=1)) == ["tpm"]


def test_tokens_that_were_not_used_are_given_back(ledger: Replica, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="100", tpm=600)
    call = payer.call("1", tokens=600)
    ledger.hold(call)
    assert ledger.outcomes(payer.call("1", tokens=500)) == ["tpm"]

    ledger.settle(call.using(input_tokens=20, output_tokens=30))

    assert ledger.outcomes(payer.call("1", tokens=550), payer.call("2", tokens=1)) == ["granted", "tpm"]


def test_a_limit_of_the_key_is_said_before_the_account_s_money(ledger: Replica, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="0", max_concurrency=1)

    assert ledger.outcomes(payer.call("0"), payer.call("5")) == ["granted", "max_concurrency"]


def test_a_key_that_is_refused_leaves_its_account_to_the_others(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="5", spend_limit=Decimal(1))
    other = Payer(payer.user_id, make_key(db, payer.user_id))

    assert ledger.outcomes(payer.call("2"), payer.call("3"), other.call("5")) == ["spend_limit", "spend_limit", "granted"]
    assert account(db, payer.user_id)["held"] == 5


def test_a_call_that_is_refused_for_its_tokens_takes_nothing_from_its_batch(ledger: Replica, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="100", tpm=600)
    ledger.hold(payer.call("1", tokens=300))

    assert ledger.outcomes(payer.call("1", tokens=400), payer.call("2", tokens=200)) == ["tpm", "granted"]
