"""Step 6, settle: each admitted call is handed to the ledger exactly once, whatever became of it."""

import asyncio

from app.errors import ProxyError
from app.gateway.call_record import CallRecord
from app.ledger.outcome import Outcome
from app.ledger.settlement import Settlement


class Settling:
    """One call's settlement. `submit` works at most once, and without awaiting anything, so that it also works while the
    call's own task is being cancelled; the ledger's task does the rest."""

    __slots__ = ("_committed", "_longest_wait", "_outcome", "_settlement")

    def __init__(self, settlement: Settlement, *, longest_wait: float) -> None:
        self._settlement = settlement
        self._longest_wait = longest_wait
        self._outcome: Outcome | None = None
        self._committed: asyncio.Future[None] | None = None

    @property
    def is_submitted(self) -> bool:
        return self._outcome is not None

    def submit(self, outcome: Outcome) -> None:
        assert self._outcome is None
        self._outcome = outcome
        self._committed = self._settlement.submit(outcome)

    async def secured(self) -> None:
        """Returns when the outcome can't be lost any more: its row is in the database or, where that takes longer than
        `SETTLE_WAIT`, its record is in the spool."""
        assert self._outcome is not None
        assert self._committed is not None
        await self._settlement.secure(self._outcome, self._committed, wait=self._longest_wait)


async def record_refusal(settlement: Settlement, record: CallRecord, refusal: ProxyError, *, longest_wait: float) -> None:
    """A refusal of a known user leaves a row, so that operators can explain it; 401 and 429 don't, as they come in floods."""
    if record.caller is None or refusal.status in (401, 429, 503):
        return
    refused = record.failure(reason="refused", http_status=refusal.status, error=str(refusal))
    if committed := settlement.submit_refusal(refused):
        await asyncio.wait({committed}, timeout=longest_wait)
