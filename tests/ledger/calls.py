"""Calls as the ledger sees them, without a proxy around them, and the people who make them."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Self
from uuid import UUID

from uuid_utils.compat import uuid7

from app.ledger.hold import Hold
from app.ledger.outcome import Outcome
from tests.harness.postgres import Database


@dataclass(frozen=True)
class Payer:
    """A user with an account, and one key."""

    user_id: str
    key_id: int

    def call(self, cost: str = "0", **fields: Any) -> "Call":
        return Call(self.user_id, self.key_id, Decimal(cost), **fields)


@dataclass(frozen=True)
class Call:
    """`ceiling` None: the cost. `row`: columns that differ from those of an ordinary call."""

    user_id: str
    key_id: int
    cost: Decimal
    ceiling: Decimal | None = None
    tokens: int = 0
    key_hash: str | None = None
    row: Mapping[str, Any] = field(default_factory=dict)
    request_id: UUID = field(default_factory=uuid7)

    def hold(self) -> Hold:
        return Hold(
            request_id=self.request_id,
            user_id=self.user_id,
            key_id=self.key_id,
            key_hash=self.key_hash,
            amount=self.cost if self.ceiling is None else self.ceiling,
            tokens=self.tokens,
            open_ended=False,
            entry=json.dumps(self._row()),
        )

    def outcome(self) -> Outcome:
        return Outcome(self.request_id, self.user_id, json.dumps(self._row() | {"cost": f"{self.cost:f}"} | self.row).encode())

    def using(self, **row: Any) -> Self:
        return replace(self, row={**self.row, **row})

    def _row(self) -> dict[str, Any]:
        return {
            "request_id": str(self.request_id),
            "user_id": self.user_id,
            "api_key_id": self.key_id,
            "model_name": "model",
            "is_local": False,
            "input_tokens": 10,
            "output_tokens": 5,
            "status": "success",
            "usage_source": "provider",
            "api": "chat_completions",
        }


def make_payer(db: Database, *, credit: str = "0", credit_limit: str = "0", **policy: Any) -> Payer:
    user_id = f"user-{secrets.token_hex(6)}"
    db.execute("INSERT INTO aigcspace.users (id) VALUES ($1)", user_id)
    db.execute(
        "INSERT INTO aigcspace.account (user_id, credit, credit_limit) VALUES ($1, $2, $3)", user_id, Decimal(credit), Decimal(credit_limit)
    )
    if Decimal(credit):
        db.execute("INSERT INTO aigcspace.credit_entry (user_id, amount) VALUES ($1, $2)", user_id, Decimal(credit))
    return Payer(user_id, make_key(db, user_id, **policy))


def make_key(db: Database, user_id: str, **policy: Any) -> int:
    """`policy`: columns of `key_policy`."""
    key_id = int(db.value("INSERT INTO aigcspace.platform_api_key (user_id) VALUES ($1) RETURNING id", user_id))
    columns = ", ".join(["key_id", *policy])
    values = ", ".join(f"${number}" for number in range(1, len(policy) + 2))
    db.execute(f"INSERT INTO aigcspace.key_policy ({columns}) VALUES ({values})", key_id, *policy.values())
    db.execute("INSERT INTO aigcspace.key_meter (key_id) VALUES ($1)", key_id)
    return key_id


def account(db: Database, user_id: str) -> dict[str, Any]:
    return db.one(
        "SELECT *, credit + credit_limit - spent - held AS available FROM aigcspace.account WHERE user_id = $1",
        user_id,
    )


def meter(db: Database, key_id: int) -> dict[str, Any]:
    return db.one("SELECT * FROM aigcspace.key_meter WHERE key_id = $1", key_id)


def rows(db: Database, user_id: str) -> list[dict[str, Any]]:
    """In the order in which their bills were cut."""
    return db.fetch("SELECT * FROM aigcspace.api_call_log WHERE user_id = $1 ORDER BY request_id", user_id)


def holds(db: Database, user_id: str) -> int:
    return int(db.value("SELECT count(*) FROM aigcspace.call_hold WHERE user_id = $1", user_id))
