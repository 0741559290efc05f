"""Holds: the ceiling of a call, set aside before the call goes upstream.

A hold that can't be made, as the database is away or slow, raises `Unavailable`; a call is never let through without one.
What became of such a reservation may be unknown: the hold is nobody's then, and `recovery` voids it.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

import structlog
from sqlalchemy import text

from app.database import LOCK_WAIT, Database, is_away, said
from app.errors import Unavailable
from app.ledger.group_commit import GroupCommit
from app.ledger.lease import Lease
from app.metrics import Metrics

log = structlog.get_logger(__name__)

_RESERVE = text(
    "SELECT * FROM aigcspace.reserve("
    ":request_ids, :user_ids, :key_ids, :key_hashes, :amounts, :token_estimates, :open_endeds, :entries, :instance, :patience, :zone)"
)
_STEP = ("reserve",)


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
class Rate:
    """A limit a minute, and what is left of it."""

    limit: int
    left: float


@dataclass(frozen=True, slots=True)
class Decision:
    """`outcome` is `granted` or the reason of the refusal: see `functions/reserve.sql`. `available` is None where there
    is no account. `retry_after`: seconds. `requests` and `tokens`: of the key's and the user's limits the tighter ones."""

    outcome: str
    available: Decimal | None
    retry_after: float | None
    requests: Rate | None = None
    tokens: Rate | None = None


class Holds:
    """`longest_wait`: seconds in which a call is let through or refused."""

    def __init__(self, database: Database, lease: Lease, *, longest_wait: float, time_zone: str, metrics: Metrics) -> None:
        self._database = database
        self._reserving = database.written(_RESERVE)
        self._metrics = metrics
        self._time_zone = time_zone
        self._lease = lease
        self._longest_wait = longest_wait
        self._group: GroupCommit[Hold, Decision] = GroupCommit(self._reserve, lane_of=lambda hold: hold.user_id, withdrawable=True)
        self._owned: set[UUID] = set()
        self._is_away = False
        self.lease_lost = asyncio.Event()
        self.run = self._group.run

    async def reserve(self, hold: Hold) -> Decision:
        """A call that is granted is owned from before its hold is made until it is `ended`."""
        self._owned.add(hold.request_id)
        decision: Decision | None = None
        try:
            async with asyncio.timeout(self._longest_wait):
                decision = await self._group.submit(hold)
        except Exception as error:
            if is_away(error):
                self._say_away(error)
                raise _unavailable() from error
            raise
        finally:
            if decision is None or decision.outcome != "granted":
                self._owned.discard(hold.request_id)
        if decision.outcome == "no_lease":
            self.lease_lost.set()
            raise _unavailable()
        self._is_away = False
        return decision

    def _say_away(self, error: Exception) -> None:
        """Once: each call is told."""
        if not self._is_away:
            log.warning("calls are refused: no hold can be made", error=said(error))
        self._is_away = True

    def owns(self, request_id: UUID) -> bool:
        return request_id in self._owned

    def ended(self, request_id: UUID) -> None:
        """Its row is committed."""
        self._owned.discard(request_id)

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
            "instance": self._lease.id,
            "patience": LOCK_WAIT,
            "zone": self._time_zone,
        }
        started = time.monotonic()
        rows = await self._database.rows(self._reserving, parameters)
        self._metrics.commit.observe(time.monotonic() - started, _STEP)
        self._metrics.batch_size.observe(len(holds), _STEP)
        decisions = {
            request_id: Decision(outcome, available, retry_after, _rate(requests, requests_left), _rate(tokens, tokens_left))
            for request_id, outcome, available, retry_after, requests, requests_left, tokens, tokens_left in rows
        }
        return [decisions[hold.request_id] for hold in holds]


def _rate(limit: int | None, left: float) -> Rate | None:
    return None if limit is None else Rate(limit, left)


def _unavailable() -> Unavailable:
    return Unavailable("Billing is not available at the moment, so the call was not made. Try again shortly.", code="database_unavailable")
