"""However small the calls, a user's bills add up to what the calls cost; no call is rounded away, none is rounded up."""

from collections.abc import Callable
from decimal import Decimal

import pytest

from tests.harness.books import bills
from tests.harness.documented import Example, examples
from tests.harness.postgres import Database
from tests.ledger.calls import Payer, account, rows
from tests.ledger.replica import Replica
from tests.ledger.sums import check_at_rest

CALLS, COST = 10_000, "0.00004"


def test_ten_thousand_calls_of_four_hundred_thousandths_bill_forty_cents(
    ledger: Replica, db: Database, new_payer: Callable[..., Payer]
) -> None:
    payer = new_payer(credit="1")
    calls = [payer.call(COST, ceiling=Decimal("0.0001")) for _ in range(CALLS)]

    ledger.hold(*calls)
    assert account(db, payer.user_id)["available"] == 0
    ledger.settle(*calls)

    assert db.one("SELECT count(*), sum(bill) AS bill FROM aigcspace.api_call_log WHERE user_id = $1", payer.user_id) == {
        "count": CALLS,
        "bill": Decimal("0.4000"),
    }
    assert account(db, payer.user_id)["available"] == Decimal("0.6")
    check_at_rest(db, [payer.user_id])


def test_calls_settled_one_by_one_bill_the_same_as_together(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    alone, together = new_payer(credit="1"), new_payer(credit="1")
    costs = ["0.00004", "0.00001", "0.00005", "0.0000000001", "0.00004", "0.12345", "0.00009", "0"] * 5
    one_by_one, at_once = [alone.call(cost) for cost in costs], [together.call(cost) for cost in costs]
    ledger.hold(*one_by_one, *at_once)

    for call in one_by_one:
        ledger.settle(call)
    ledger.settle(*at_once)

    expected = bills([Decimal(cost) for cost in costs])
    assert [row["bill"] for row in rows(db, alone.user_id)] == expected
    assert [row["bill"] for row in rows(db, together.user_id)] == expected


def test_the_call_that_makes_the_next_unit_whole_carries_it(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="1")
    calls = [payer.call("0.00002") for _ in range(5)]
    ledger.hold(*calls)

    ledger.settle(*calls)

    assert [str(row["bill"]) for row in rows(db, payer.user_id)] == ["0.0000", "0.0000", "0.0001", "0.0000", "0.0000"]


def test_a_free_call_has_a_row_and_no_bill(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer()
    call = payer.call("0")
    ledger.hold(call)

    ledger.settle(call)

    (row,) = rows(db, payer.user_id)
    assert (row["bill"], row["charge"], row["write_off"], row["request_id"]) == (0, 0, 0, call.request_id)


def test_a_cost_keeps_its_ten_decimals(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="100")
    call = payer.call("12.3456789012")
    ledger.hold(call)

    ledger.settle(call)

    (row,) = rows(db, payer.user_id)
    assert (str(row["charge"]), str(row["bill"])) == ("12.3456789012", "12.3457")
    assert str(account(db, payer.user_id)["spent"]) == "12.3456789012"


@pytest.mark.parametrize("example", examples("credit"))
def test_the_page_on_billing_shows_what_rows_have(ledger: Replica, db: Database, new_payer: Callable[..., Payer], example: Example) -> None:
    payer = new_payer(credit=example.first("credit"))
    for name, said in example.given:
        if name == "call":
            _, ceiling, _, cost = said.split()
            call = payer.call(cost, ceiling=Decimal(ceiling))
            ledger.hold(call)
            ledger.settle(call)

    shown = [f"row charge {row['charge']:f} bill {row['bill']:f} write_off {row['write_off']:f}" for row in rows(db, payer.user_id)]
    assert shown == list(example.results)
