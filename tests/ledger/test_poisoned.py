"""One call that the database can't take fails alone: those that share its batch are settled and granted all the same."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from app.errors import Unavailable
from app.ledger.hold import Hold
from app.ledger.settlement import Outcome
from tests.harness.postgres import Database
from tests.ledger.calls import Call, Payer, account, holds, rows
from tests.ledger.replica import Replica

BAD_ROWS: dict[str, dict[str, Any]] = {
    "a cost that is NaN": {"cost": "NaN"},
    "an infinite cost": {"cost": "Infinity"},
    "a negative cost": {"cost": "-0.0000000001"},
    "no cost": {"cost": None},
    "a cost in words": {"cost": "free"},
    "a cost beyond reason": {"cost": "1e12"},
    "a name too long": {"model_name": "m" * 256},
    "no name": {"model_name": None},
    "a name with NUL": {"model_name": "a\x00b"},
    "a name with half a character": {"model_name": "\ud800"},
    "a status too long": {"status": "s" * 21},
    "an address too long": {"request_ip": "1" * 51},
    "tokens beyond the column": {"input_tokens": 2**31},
    "tokens beyond all columns": {"input_tokens": 10**30},
    "tokens that are text": {"output_tokens": "many"},
    "half a token": {"output_tokens": 1.5},
    "tokens of NaN": {"output_tokens": float("nan")},
    "tokens in a list": {"input_tokens": [1]},
    "no tokens": {"input_tokens": None},
    "flags that are no list": {"flags": "flag"},
    "an id that is no id": {"request_id": "1"},
    "a key that is no number": {"api_key_id": "key"},
}
BAD_BYTES = {
    "cut off": b'{"request_id": "',
    "not UTF-8": b'{"model_name": "\xff"}',
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "two": b"{},{}",
    "the end of the batch": b"]",
}


async def settle_with_neighbours(ledger: Replica, good: list[Call], bad: Outcome) -> BaseException | None:
    """The bad one in the middle of one batch; what became of it. The good ones must be settled."""
    half = len(good) // 2
    first = [ledger.settlement.submit(call.outcome()) for call in good[:half]]
    middle = ledger.settlement.submit(bad)
    last = [ledger.settlement.submit(call.outcome()) for call in good[half:]]
    for future in (*first, *last):
        await future
    await ledger.settlement.drained()
    return middle.exception()


def assert_fails_alone(ledger: Replica, db: Database, payer: Payer, call: Call, bad: Outcome) -> None:
    good = [payer.call("1") for _ in range(4)]
    ledger.hold(*good, call)

    error = ledger.run(settle_with_neighbours(ledger, good, bad))

    assert error is not None
    assert [row["request_id"] for row in rows(db, payer.user_id)] == [other.request_id for other in good]
    assert holds(db, payer.user_id) == 1
    assert (account(db, payer.user_id)["spent"], account(db, payer.user_id)["held"]) == (4, call.ceiling or call.cost)


@pytest.mark.parametrize("what", BAD_ROWS)
def test_a_row_that_cannot_be_stored_fails_alone(ledger: Replica, db: Database, new_payer: Callable[..., Payer], what: str) -> None:
    payer = new_payer(credit="10")
    call = payer.call("1")

    assert_fails_alone(ledger, db, payer, call, call.using(**BAD_ROWS[what]).outcome())


@pytest.mark.parametrize("what", BAD_BYTES)
def test_an_entry_that_is_no_object_fails_alone(ledger: Replica, db: Database, new_payer: Callable[..., Payer], what: str) -> None:
    payer = new_payer(credit="10")
    call = payer.call("1")

    assert_fails_alone(ledger, db, payer, call, Outcome(call.request_id, BAD_BYTES[what]))


def test_many_bad_ones_among_many_fail_alone(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="100")
    good, bad = [payer.call("0.1") for _ in range(200)], [payer.call("0.1") for _ in range(7)]
    ledger.hold(*good, *bad)
    calls = sorted([*good, *(call.using(cost="NaN") for call in bad)], key=lambda call: call.request_id.int % 101)

    endings = ledger.run(ledger.settling(calls))

    assert sum(ending is not None for ending in endings) == len(bad)
    assert len(rows(db, payer.user_id)) == len(good)
    assert account(db, payer.user_id)["held"] == Decimal("0.7")


def test_a_call_that_failed_can_be_settled_when_it_is_mended(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="10")
    call = payer.call("1")
    ledger.hold(call)
    (ending,) = ledger.run(ledger.settling([call.using(cost="NaN")]))
    assert ending is not None

    ledger.settle(call)

    assert account(db, payer.user_id)["spent"] == 1
    assert holds(db, payer.user_id) == 0


BAD_HOLDS: dict[str, dict[str, Any]] = {
    "NaN": {"amount": Decimal("NaN")},
    "negative": {"amount": Decimal("-0.0000000001")},
    "no JSON": {"entry": "{"},
    "an entry with NUL": {"entry": '{"a": "\\u0000"}'},
    "tokens beyond the column": {"tokens": 2**63},
}


async def reserve_with_neighbours(ledger: Replica, good: list[Call], bad: Hold) -> list[Any]:
    submitted = [*(call.hold() for call in good[:2]), bad, *(call.hold() for call in good[2:])]
    futures = [ledger.holds._group.submit(hold) for hold in submitted]
    endings = []
    for future in futures:
        try:
            endings.append((await future).outcome)
        except Exception as error:  # noqa: BLE001
            endings.append(error)
    return endings


@pytest.mark.parametrize("what", BAD_HOLDS)
def test_a_hold_that_cannot_be_made_refuses_no_other(ledger: Replica, db: Database, new_payer: Callable[..., Payer], what: str) -> None:
    payer = new_payer(credit="10")
    good = [payer.call("1") for _ in range(4)]

    endings = ledger.run(reserve_with_neighbours(ledger, good, replace(payer.call("1").hold(), **BAD_HOLDS[what])))

    assert endings[:2] + endings[3:] == ["granted"] * 4
    assert endings[2] != "granted"
    assert not isinstance(endings[2], Unavailable)
    assert account(db, payer.user_id)["held"] == 4
