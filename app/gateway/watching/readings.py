"""What is read of a process when its gauges are asked for: queues, the spool, pools, breakers."""

import time
from collections.abc import Mapping

from app.database import Database
from app.gateway.admission.admit import UNPRICED
from app.gateway.call import Gateway
from app.ledger.ledger import Ledger
from app.metrics import Metrics

_UNPRICED = (UNPRICED, "404")
_REFUSED = ("401", "403")
"""What alerts watch is there from the start, at zero: of a series that comes with its first event, Prometheus sees no increase."""


class Readings:
    """`databases`: by the names of their pools."""

    def __init__(self, metrics: Metrics, gateway: Gateway, ledger: Ledger, databases: Mapping[str, Database]) -> None:
        self.metrics = metrics
        self._gateway = gateway
        self._ledger = ledger
        self._databases = databases

    def take(self) -> None:
        """Calls that have ended are counted before."""
        self._ledger.calls.tell()
        metrics, ledger, spool = self.metrics, self._ledger, self._ledger.spool
        metrics.accepting.set(self._gateway.accepting and spool.accepting)
        metrics.unsettled.set(ledger.settlement.unsettled)
        metrics.spool_bytes.set(spool.size)
        metrics.spool_limit.set(spool.largest)
        metrics.spool_records.set(spool.records)
        metrics.spool_age.set(0 if spool.oldest is None else max(time.time() - spool.oldest, 0))
        metrics.spool_failing.set(not spool.accepting)
        metrics.spool_left.set(ledger.replay.left)
        for name, database in self._databases.items():
            size, used = database.connections
            metrics.pool_size.set(size, (name,))
            metrics.pool_used.set(used, (name,))
        metrics.refusals.of(_UNPRICED)
        metrics.breaker_open.clear()
        breakers = self._gateway.failover.breakers
        for target in self._gateway.admitter.catalog.snapshot.targets.values():
            metrics.breaker_open.set(breakers.state(target.id) != "closed", (target.name,))
            for status in _REFUSED:
                metrics.attempts.of((target.name, status))
