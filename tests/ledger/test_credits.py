"""Money paid in and taken back: every entry once, and the entries are the credit."""

import asyncio
import os
import pwd
from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import Conflict, NotFound, UnacceptableValue
from app.ledger.credits import list_credits
from tests.harness.postgres import Database
from tests.ledger.calls import Payer, account, make_payer
from tests.ledger.payments import assert_entries_are_the_credit, entries, post, posting
from tests.ledger.replica import Replica

NO_MONEY = ("0", "0.0000", "NaN", "Infinity", "-Infinity", "0.00001", "1.23456", "1000000000.0001", "1E+10", "1E-999")


def test_a_payment_is_an_entry_and_credit(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="1")

    entry = post(ledger, payer, "12.3456", note="invoice 7")

    assert (entry.user_id, entry.amount, entry.note) == (payer.user_id, Decimal("12.3456"), "invoice 7")
    assert entries(db, payer.user_id) == [1, Decimal("12.3456")]
    assert_entries_are_the_credit(db, payer.user_id)


def test_an_audit_entry_names_the_systems_user_where_no_operator_is(
    ledger: Replica, db: Database, new_payer: Callable[..., Payer], monkeypatch: pytest.MonkeyPatch
) -> None:
    payer = new_payer()
    monkeypatch.setenv("LOGNAME", "somebody-else")

    post(ledger, payer, "3")

    [entry] = db.fetch("SELECT actor, action, after FROM aigcspace.audit_entry WHERE object_id = $1", payer.user_id)
    assert (entry["actor"], entry["action"]) == (f"cli:{pwd.getpwuid(os.getuid()).pw_name}", "credit.add")


def test_credit_can_be_held_as_soon_as_it_is_there(ledger: Replica, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer()
    assert ledger.outcomes(payer.call("1")) == ["credit"]

    post(ledger, payer, "1")

    assert ledger.outcomes(payer.call("1")) == ["granted"]


def test_a_payment_said_again_is_the_first_entry_again(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer()

    first, again = (post(ledger, payer, "5", note="card", idempotency_key="key") for _ in range(2))

    assert (again.id, again.created_at) == (first.id, first.created_at)
    assert entries(db, payer.user_id) == [5]
    assert_entries_are_the_credit(db, payer.user_id)


def test_a_withdrawal_said_again_is_not_refused_for_what_it_took(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="5")

    first, again = (post(ledger, payer, "-5", idempotency_key="key") for _ in range(2))

    assert again.id == first.id
    assert account(db, payer.user_id)["credit"] == 0


@pytest.mark.parametrize("other", [{"amount": "6", "note": "card"}, {"amount": "5", "note": "cash"}, {"amount": "-5", "note": "card"}])
def test_a_key_used_for_something_else_is_refused(
    ledger: Replica, db: Database, new_payer: Callable[..., Payer], other: dict[str, str]
) -> None:
    payer = new_payer()
    post(ledger, payer, "5", note="card", idempotency_key="key")

    with pytest.raises(Conflict) as refused:
        post(ledger, payer, **other, idempotency_key="key")

    assert refused.value.code == "idempotency_key_reused"
    assert entries(db, payer.user_id) == [5]


def test_the_same_key_of_two_users_is_two_payments(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    one, other = new_payer(), new_payer()

    assert post(ledger, one, "5", idempotency_key="key").id != post(ledger, other, "5", idempotency_key="key").id
    assert entries(db, one.user_id) == entries(db, other.user_id) == [5]


def test_payments_without_a_key_are_each_their_own(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer()

    post(ledger, payer, "5")
    post(ledger, payer, "5")

    assert account(db, payer.user_id)["credit"] == 10


def test_what_is_spent_or_held_is_not_taken_back(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="10")
    spent = payer.call("2.5")
    ledger.hold(spent, payer.call("3"))
    ledger.settle(spent)

    with pytest.raises(Conflict) as refused:
        post(ledger, payer, "-4.5001")

    assert refused.value.code == "insufficient_available"
    assert "Only 4.5 is available" in str(refused.value)
    assert entries(db, payer.user_id) == [10]
    post(ledger, payer, "-4.5")
    assert account(db, payer.user_id)["available"] == 0
    assert_entries_are_the_credit(db, payer.user_id)


def test_a_credit_limit_can_be_paid_out_and_no_more(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="1", credit_limit="4")

    with pytest.raises(Conflict):
        post(ledger, payer, "-5.0001")
    post(ledger, payer, "-5")

    assert account(db, payer.user_id)["available"] == 0


@pytest.mark.parametrize(
    "amount", ["0", "0.0000", "NaN", "Infinity", "-Infinity", "0.00001", "1.23456", "1000000000.0001", "1E+10", "1E-999"]
)
def test_an_amount_that_is_no_money_is_refused(ledger: Replica, db: Database, new_payer: Callable[..., Payer], amount: str) -> None:
    payer = new_payer()

    with pytest.raises(UnacceptableValue, match="amount"):
        post(ledger, payer, amount)

    assert entries(db, payer.user_id) == []


@pytest.mark.parametrize("details", [{"note": "a\0b"}, {"note": "n" * 1001}, {"idempotency_key": ""}, {"idempotency_key": "k" * 256}])
def test_a_text_that_cannot_be_kept_is_refused(ledger: Replica, new_payer: Callable[..., Payer], details: dict[str, str]) -> None:
    with pytest.raises(UnacceptableValue):
        post(ledger, new_payer(), "1", **details)


def test_credit_never_passes_what_an_account_can_hold(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer()
    post(ledger, payer, "1000000000")

    with pytest.raises(Conflict) as refused:
        post(ledger, payer, "0.0001")

    assert refused.value.code == "credit_out_of_range"
    assert_entries_are_the_credit(db, payer.user_id)


def test_nobody_can_pay_for_a_user_who_is_not_there(ledger: Replica, db: Database) -> None:
    with pytest.raises(NotFound):
        ledger.run(posting(ledger, "nobody", "5"))

    assert entries(db, "nobody") == []


def test_the_first_payment_opens_the_account_with_what_everybody_gets(ledger: Replica, db: Database) -> None:
    db.execute("INSERT INTO aigcspace.users (id) VALUES ('of-the-platform')")

    async def pay_twice() -> None:
        await asyncio.gather(*(posting(ledger, "of-the-platform", "5", default_credit=Decimal("2.5")) for _ in range(4)))

    ledger.run(pay_twice())

    assert sorted(entries(db, "of-the-platform")) == [Decimal("2.5"), 5, 5, 5, 5]
    assert_entries_are_the_credit(db, "of-the-platform")


def test_the_newest_entry_is_listed_first_page_by_page(ledger: Replica, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer()
    for amount in ("1", "2", "3", "4", "5"):
        post(ledger, payer, amount)

    async def pages() -> list[list[Decimal]]:
        found, cursor = [], None
        async with ledger.database.reading() as session:
            while not found or cursor:
                page = await list_credits(session, user_id=payer.user_id, limit=2, cursor=cursor)
                found.append([entry.amount for entry in page.rows])
                cursor = page.next_cursor
        return found

    assert ledger.run(pages()) == [[5, 4], [3, 2], [1]]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-60_000, 100_000).filter(bool), max_size=12))
def test_the_entries_are_always_the_credit(ledger: Replica, db: Database, units: list[int]) -> None:
    payer, credit = make_payer(db), Decimal(0)

    for unit in units:
        amount = Decimal(unit).scaleb(-4)
        if credit + amount < 0:
            with pytest.raises(Conflict):
                post(ledger, payer, f"{amount}")
        else:
            post(ledger, payer, f"{amount}")
            credit += amount

    assert account(db, payer.user_id)["credit"] == credit
    assert_entries_are_the_credit(db, payer.user_id)
