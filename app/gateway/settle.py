"""Step 6, settle: each admitted call is handed to the ledger exactly once, whatever became of it."""

import asyncio

import structlog

from app.errors import ProxyError
from app.gateway.call_record import CallRecord
from app.ledger.settlement import Outcome, Settlement

log = structlog.get_logger(__name__)


class Settling:
    """One call's settlement. `submit` works at most once, and without awaiting anything, so that it also works while the
    call's own task is being cancelled; the ledger's task does the rest."""

    def __init__(self, settlement: Settlement, *, longest_wait: float) -> None:
        self._settlement = settlement
        self._longest_wait = longest_wait
        self._committed: asyncio.Future[None] | None = None

    @property
    def is_submitted(self) -> bool:
        return self._committed is not None

    def submit(self, outcome: Outcome) -> None:
        assert self._committed is None
        self._committed = self._settlement.submit(outcome)

    async def committed(self) -> None:
        """Returns when the row is in the database, or after `SETTLE_WAIT`: the client isn't kept longer."""
        assert self._committed is not None
        await asyncio.wait({self._committed}, timeout=self._longest_wait)
        if not self._committed.done():
            log.warning("a call's last byte leaves before its row", waiting=self._settlement.open)


async def record_refusal(settlement: Settlement, record: CallRecord, refusal: ProxyError, *, longest_wait: float) -> None:
    """A refusal of a known user leaves a row, so that operators can explain it; 401 and 429 don't, as they come in floods."""
    if record.caller is None or refusal.status in (401, 429, 503):
        return
    settling = Settling(settlement, longest_wait=longest_wait)
    settling.submit(record.failure(reason="refused", http_status=refusal.status, error=str(refusal)))
    await settling.committed()
