"""What of this process operators are told: upstreams that are down or refuse their secret, a spool that grows; and low balances.

Models without a price are told where a call asks for one, in `call.py`.
"""

import asyncio
import socket
import time
from collections import Counter
from contextlib import suppress
from decimal import Decimal

import structlog

from app.errors import Unavailable
from app.gateway.call import Gateway
from app.ledger.spool import Spool
from app.notify.notices import Notices
from app.reports.outbox import LOW_BALANCE, Notice, Outbox

log = structlog.get_logger(__name__)

EVERY = 2.0
"""Seconds between two looks."""
BALANCES_EVERY = 30.0
SPOOL_AGE = 10.0
"""Seconds that a call's outcome may be in the spool before that is told."""
_REFUSED = ("401", "403")


class Watch:
    """`low_balance`: below it an account is told; None: none is."""

    def __init__(self, notices: Notices, gateway: Gateway, spool: Spool, outbox: Outbox, *, low_balance: Decimal | None) -> None:
        self._notices = notices
        self._gateway = gateway
        self._spool = spool
        self._outbox = outbox
        self._low_balance = low_balance
        self._refused: Counter[str] = Counter()
        self._asked_at = 0.0

    async def run(self) -> None:
        """Until cancelled."""
        self._refused = self._refusals()  # of a worker that has died, this one goes on with its counts
        while True:
            try:
                self._look()
                with suppress(Unavailable):  # the database is away
                    await self._look_at_balances()
            except Exception:
                log.exception("what is notified was not looked at, and is again")
            await asyncio.sleep(EVERY)

    def _look(self) -> None:
        breakers, refused = self._gateway.failover.breakers, self._refusals()
        for target in self._gateway.admitter.catalog.snapshot.targets.values():
            if breakers.state(target.id) == "open":
                text = f"The upstream {target.name} keeps failing. Calls go to others of the model, where there are any."
                self._notices.add(Notice("upstream_down", target.name, text))
            if refused[target.name] > self._refused[target.name]:
                text = f"The upstream {target.name} has refused our secret (401 or 403). Set another `api_key`, if it was revoked."
                self._notices.add(Notice("upstream_secret_refused", target.name, text))
        self._refused = refused
        oldest = self._spool.oldest
        if not self._spool.accepting or (oldest is not None and time.time() - oldest > SPOOL_AGE):
            host = socket.gethostname()
            why = self._spool.trouble or "the database takes no rows"
            text = f"{self._spool.records} calls wait in the spool of {host}: {why}. Keep its DATA_DIR."
            self._notices.add(Notice("spool_growing", host[:255], text))

    def _refusals(self) -> Counter[str]:
        """By the upstreams' names."""
        found: Counter[str] = Counter()
        for (upstream, status), (attempts,) in self._gateway.metrics.attempts.series.items():
            if status in _REFUSED:
                found[upstream] += int(attempts)
        return found

    async def _look_at_balances(self) -> None:
        now = time.monotonic()
        if self._low_balance is None or (self._asked_at and now - self._asked_at < BALANCES_EVERY):
            return
        self._asked_at = now
        currency = self._gateway.settings.currency
        for user_id, left in await self._outbox.low_balances(self._low_balance):
            text = f"The account of {user_id} has {left:.4f} {currency} left, which is less than {self._low_balance:f}."
            self._notices.add(Notice(LOW_BALANCE, user_id, text))
