"""A cost above its hold: paid from what no other call holds, in order, and the rest is written off, never owed."""

from collections.abc import Callable, Sequence
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.postgres import Database
from tests.ledger.calls import Call, Payer, account, make_payer, rows
from tests.ledger.replica import Replica
from tests.ledger.sums import check, check_at_rest


def dear(payer: Payer, ceiling: str, cost: str) -> Call:
    return payer.call(cost, ceiling=Decimal(ceiling))


def paid(db: Database, payer: Payer) -> list[tuple[Decimal, Decimal]]:
    """Charge and write-off of each row, in the order of the calls."""
    return [(row["charge"], row["write_off"]) for row in rows(db, payer.user_id)]


def test_an_excess_that_credit_covers_is_paid(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="10")
    call = dear(payer, "2", "7.5")
    ledger.hold(call)

    ledger.settle(call)

    assert paid(db, payer) == [(Decimal("7.5"), 0)]
    assert account(db, payer.user_id)["available"] == Decimal("2.5")


def test_what_credit_does_not_cover_is_written_off(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="10")
    call = dear(payer, "2", "25")
    ledger.hold(call)

    ledger.settle(call)

    assert paid(db, payer) == [(10, 15)]
    after = account(db, payer.user_id)
    assert (after["available"], after["written_off"], after["billed"]) == (0, 15, 10)


def test_what_another_call_holds_is_not_touched(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="10")
    greedy, other = dear(payer, "4", "8"), dear(payer, "5", "5")
    ledger.hold(greedy, other)

    ledger.settle(greedy)
    ledger.settle(other)

    assert paid(db, payer) == [(5, 3), (5, 0)]


def test_what_a_call_of_the_same_batch_leaves_of_its_hold_pays_for_another(
    ledger: Replica, db: Database, new_payer: Callable[..., Payer]
) -> None:
    payer = new_payer(credit="10")
    greedy, modest = dear(payer, "4", "8"), dear(payer, "6", "3")
    ledger.hold(greedy, modest)

    ledger.settle(greedy, modest)

    assert paid(db, payer) == [(7, 1), (3, 0)]


def test_the_first_of_a_batch_is_paid_first(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="10")
    calls = [dear(payer, "1", "5") for _ in range(4)]
    ledger.hold(*calls)

    ledger.settle(*reversed(calls))

    assert paid(db, payer) == [(5, 0), (3, 2), (1, 4), (1, 4)]


def test_a_credit_limit_pays_as_credit_does(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="1", credit_limit="5")
    call = dear(payer, "2", "7")
    ledger.hold(call)

    ledger.settle(call)

    assert paid(db, payer) == [(6, 1)]
    assert account(db, payer.user_id)["available"] == 0


@pytest.mark.parametrize(("cost", "expected"), [("3", (3, 0)), ("12", (10, 2))])
def test_a_call_without_a_hold_is_paid_from_what_is_free(
    ledger: Replica, db: Database, new_payer: Callable[..., Payer], cost: str, expected: tuple[int, int]
) -> None:
    payer = new_payer(credit="10")

    ledger.settle(payer.call(cost))

    assert paid(db, payer) == [expected]


def test_a_call_without_a_hold_never_takes_what_others_hold(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="10")
    held = payer.call("10")
    ledger.hold(held)

    ledger.settle(payer.call("3"))
    ledger.settle(held)

    assert paid(db, payer) == [(10, 0), (0, 3)]


def test_a_key_is_charged_what_was_paid_and_not_what_it_cost(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="10")
    call = dear(payer, "2", "25")
    ledger.hold(call)

    ledger.settle(call)

    assert db.value("SELECT spent FROM aigcspace.key_meter WHERE key_id = $1", payer.key_id) == 10


amounts = st.integers(0, 500).map(lambda cents: Decimal(cents) / 100)
dear_calls = st.lists(st.tuples(amounts, amounts), min_size=1, max_size=12)


def charges(calls: Sequence[Call], held_by_batch: Sequence[Decimal], available: Decimal) -> list[Decimal]:
    """The rule of the design, in words of one call: what was held is paid; then each takes what is left of the pool.

    `available`: credit + limit - spent - held, before. `calls` in the order of their ids.
    """
    bases = [min(call.cost, hold) for call, hold in zip(calls, held_by_batch, strict=True)]
    pool = max(available + sum(held_by_batch) - sum(bases), Decimal(0))
    charged = []
    for call, base in zip(calls, bases, strict=True):
        extra = min(call.cost - base, pool)
        pool -= extra
        charged.append(base + extra)
    return charged


@settings(max_examples=60, deadline=None)
@given(dear_calls, st.integers(0, 20), st.data())
def test_any_batch_is_charged_as_the_rule_says(
    ledger: Replica, db: Database, wanted: list[tuple[Decimal, Decimal]], credit: int, data: st.DataObject
) -> None:
    payer = make_payer(db, credit=str(credit))
    calls = [payer.call(f"{cost}", ceiling=ceiling) for ceiling, cost in wanted]
    granted = [decision.outcome == "granted" for decision in ledger.reserve(*calls)]
    held = {call.request_id: call.ceiling if is_held else Decimal(0) for call, is_held in zip(calls, granted, strict=True)}
    size = data.draw(st.integers(1, len(calls)))
    expected = {}

    for batch in (calls[:size], calls[size:]):
        available = account(db, payer.user_id)["available"]
        charged = charges(batch, [held[call.request_id] for call in batch], available)
        expected |= {call.request_id: charge for call, charge in zip(batch, charged, strict=True)}
        ledger.settle(*data.draw(st.permutations(batch)))
        check(db, [payer.user_id])

    found = rows(db, payer.user_id)
    assert {row["request_id"]: row["charge"] for row in found} == expected
    assert {row["request_id"]: row["write_off"] for row in found} == {
        call.request_id: call.cost - expected[call.request_id] for call in calls
    }
    check_at_rest(db, [payer.user_id])
