"""Holds: the ceiling of a call, set aside before the call goes upstream.

A hold that can't be made because the database is away raises `Unavailable`; a call is never let through without one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from sqlalchemy import text

from app.database import Database, is_away
from app.errors import Unavailable
from app.ledger.group_commit import GroupCommit

_RESERVE = text(
    "SELECT request_id, outcome, available, retry_after FROM aigcspace.reserve("
    ":request_ids, :user_ids, :key_ids, :key_hashes, :amounts, :token_estimates, :open_endeds, :entries, :instance)"
)


@dataclass(frozen=True, slots=True)
class Hold:
    """`key_hash`: of what the caller presented. `amount`: the ceiling. `tokens`: what the key's token bucket is charged
    until the true count is known. `entry`: the row, as JSON, that stands in the log if this call is never settled."""

    request_id: UUID
    user_id: str
    key_id: int
    key_hash: str | None
    amount: Decimal
    tokens: int
    open_ended: bool
    entry: str


@dataclass(frozen=True, slots=True)
class Decision:
    """`outcome` is `granted` or the reason of the refusal: see `functions/reserve.sql`. `available` is None where there
    is no account. `retry_after`: seconds."""

    outcome: str
    available: Decimal | None
    retry_after: float | None


class Holds:
    def __init__(self, database: Database, *, instance_id: UUID) -> None:
        self._database = database
        self._instance_id = instance_id
        self._group: GroupCommit[Hold, Decision] = GroupCommit(self._reserve)
        self.run = self._group.run

    async def reserve(self, hold: Hold) -> Decision:
        try:
            return await self._group.submit(hold)
        except Exception as error:
            if is_away(error):
                raise Unavailable(
                    "Billing is not available at the moment, so the call was not made. Try again shortly.", code="database_unavailable"
                ) from error
            raise

    async def _reserve(self, holds: Sequence[Hold]) -> Sequence[Decision]:
        parameters = {
            "request_ids": [hold.request_id for hold in holds],
            "user_ids": [hold.user_id for hold in holds],
            "key_ids": [hold.key_id for hold in holds],
            "key_hashes": [hold.key_hash for hold in holds],
            "amounts": [hold.amount for hold in holds],
            "token_estimates": [hold.tokens for hold in holds],
            "open_endeds": [hold.open_ended for hold in holds],
            "entries": [hold.entry for hold in holds],
            "instance": self._instance_id,
        }
        async with self._database.autocommit() as connection:
            rows = (await connection.execute(_RESERVE, parameters)).all()
        decisions = {row.request_id: Decision(row.outcome, row.available, row.retry_after) for row in rows}
        return [decisions[hold.request_id] for hold in holds]
