"""Refunds: entries that name their call, together never above its bill, while its row stays as it is."""

import asyncio
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from app.errors import Conflict, NotFound, UnacceptableValue
from app.models import CreditEntry
from tests.harness.postgres import Database
from tests.ledger.calls import Call, Payer, account, rows
from tests.ledger.payments import assert_entries_are_the_credit, entries, post, refunding
from tests.ledger.replica import Replica, at_once, replicas


@pytest.fixture(scope="module")
def pair(db: Database) -> Iterator[list[Replica]]:
    with replicas(db.url, 2) as started:
        yield started
        assert [replica.errors for replica in started] == [[], []], "the database refused something, as by a deadlock"


@pytest.fixture
def ledger(pair: list[Replica]) -> Replica:
    return pair[0]


def refund(replica: Replica, call: Call, amount: str | None = None, **wanted: Any) -> CreditEntry:
    return replica.run(refunding(replica, call, amount, **wanted))


def settled(replica: Replica, payer: Payer, cost: str) -> Call:
    call = payer.call(cost)
    replica.hold(call)
    replica.settle(call)
    return call


def named(db: Database, call: Call) -> list[Decimal]:
    found = db.fetch("SELECT amount FROM aigcspace.credit_entry WHERE request_id = $1 ORDER BY id", call.request_id)
    return [row["amount"] for row in found]


def test_a_refund_names_its_call_and_changes_nothing_of_its_row(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="10")
    call = settled(ledger, payer, "2.5")
    before = rows(db, payer.user_id)

    part = refund(ledger, call, "0.5", note="slow")
    rest = refund(ledger, call)

    assert (part.amount, part.note, part.request_id) == (Decimal("0.5"), "slow", call.request_id)
    assert rest.amount == 2
    after = account(db, payer.user_id)
    assert (after["credit"], after["spent"], after["available"]) == (Decimal("12.5"), Decimal("2.5"), 10)
    assert rows(db, payer.user_id) == before
    assert_entries_are_the_credit(db, payer.user_id)


def test_more_than_the_bill_is_not_given_back(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="10")
    call = settled(ledger, payer, "2.5")
    refund(ledger, call, "2")

    with pytest.raises(Conflict) as exceeded:
        refund(ledger, call, "0.5001")
    assert (exceeded.value.code, "Only 0.5 of" in str(exceeded.value)) == ("refund_exceeds_bill", True)
    refund(ledger, call, "0.5")
    with pytest.raises(Conflict) as nothing:
        refund(ledger, call)

    assert nothing.value.code == "nothing_to_refund"
    assert named(db, call) == [2, Decimal("0.5")]


def test_refunds_that_come_at_once_share_the_bill(pair: list[Replica], db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="10")
    call = settled(pair[0], payer, "1")

    async def many(replica: Replica) -> None:
        answers = await asyncio.gather(*(refunding(replica, call, "0.3") for _ in range(8)), return_exceptions=True)
        assert all(isinstance(answer, CreditEntry | Conflict) for answer in answers), answers

    at_once(pair, lambda replica: replica.run(many(replica)))

    assert named(db, call) == [Decimal("0.3")] * 3
    assert_entries_are_the_credit(db, payer.user_id)


def test_a_refund_said_again_is_the_first_entry_again(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="10")
    call, other = settled(ledger, payer, "1"), settled(ledger, payer, "1")

    first = refund(ledger, call, idempotency_key="key")
    again = [refund(ledger, call, amount, idempotency_key="key") for amount in (None, "1")]

    assert [entry.id for entry in again] == [first.id] * 2
    for wrong in (lambda: refund(ledger, other, idempotency_key="key"), lambda: refund(ledger, call, "0.5", idempotency_key="key")):
        with pytest.raises(Conflict) as reused:
            wrong()
        assert reused.value.code == "idempotency_key_reused"
    with pytest.raises(Conflict):
        post(ledger, payer, "1", idempotency_key="key")
    assert entries(db, payer.user_id) == [10, 1]


@pytest.mark.parametrize("amount", ["0", "-1", "NaN", "0.00001", "1E+10"])
def test_an_amount_that_is_no_refund(ledger: Replica, new_payer: Callable[..., Payer], amount: str) -> None:
    call = settled(ledger, new_payer(credit="10"), "1")

    with pytest.raises(UnacceptableValue, match="amount"):
        refund(ledger, call, amount)


def test_there_is_nothing_to_refund_of_what_nobody_paid_for(ledger: Replica, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="10")
    free, unknown = settled(ledger, payer, "0"), payer.call("1")

    with pytest.raises(Conflict, match="left to refund"):
        refund(ledger, free)
    with pytest.raises(NotFound):
        refund(ledger, unknown)
    with pytest.raises(Conflict, match="platform's own"):
        refund(ledger, unknown, request_id=None)


def test_the_database_takes_no_refund_that_takes_money(db: Database, new_payer: Callable[..., Payer]) -> None:
    with pytest.raises(Exception, match="ck_credit_entry_given"):
        insert = "INSERT INTO aigcspace.credit_entry (user_id, amount, request_id) VALUES ($1, -1, $2)"
        db.execute(insert, new_payer().user_id, UUID(int=uuid4().int))
