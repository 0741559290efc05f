"""Payments and refunds as the admin REST makes them, each in its own transaction, and what they leave."""

from decimal import Decimal
from typing import Any

from app.ledger.credits import add_credit
from app.ledger.refunds import refund_call
from app.models import CreditEntry
from tests.harness.postgres import Database
from tests.ledger.calls import Call, Payer, account
from tests.ledger.replica import Replica


async def posting(replica: Replica, user_id: str, amount: str, **wanted: Any) -> CreditEntry:
    details = {"note": None, "idempotency_key": None, "default_credit": Decimal(0)} | wanted
    async with replica.database.transaction() as session:
        return await add_credit(session, user_id=user_id, amount=Decimal(amount), **details)


async def refunding(replica: Replica, call: Call, amount: str | None = None, **wanted: Any) -> CreditEntry:
    details: dict[str, Any] = {"user_id": call.user_id, "request_id": call.request_id, "note": None, "idempotency_key": None} | wanted
    exact = None if amount is None else Decimal(amount)
    async with replica.database.transaction() as session:
        return await refund_call(session, amount=exact, default_credit=Decimal(0), **details)


def post(replica: Replica, payer: Payer, amount: str, **wanted: Any) -> CreditEntry:
    return replica.run(posting(replica, payer.user_id, amount, **wanted))


def entries(db: Database, user_id: str) -> list[Decimal]:
    return [row["amount"] for row in db.fetch("SELECT amount FROM aigcspace.credit_entry WHERE user_id = $1 ORDER BY id", user_id)]


def assert_entries_are_the_credit(db: Database, user_id: str) -> None:
    assert sum(entries(db, user_id)) == account(db, user_id)["credit"]
