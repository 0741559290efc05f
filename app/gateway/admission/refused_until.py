"""Refusals that are known to last, so that a flood of calls over a limit doesn't reach the database.

A rate of requests lets nothing through until it has drained. A key's refusal is remembered for that long, `LONGEST` at most:
a limit may be raised meanwhile.
"""

import time
from collections import OrderedDict

from app.ledger.hold import Decision

LONGEST = 1.0
"""Seconds."""
MOST = 10_000
"""Keys that are remembered."""
_LASTING = frozenset({"rpm", "user_rpm"})


class RefusedUntil:
    def __init__(self) -> None:
        self._refused: OrderedDict[int, tuple[float, float, Decision]] = OrderedDict()

    def remember(self, key_id: int, decision: Decision) -> None:
        if decision.outcome not in _LASTING or not decision.retry_after:
            return
        now = time.monotonic()
        known = self._refused.get(key_id)
        if known is not None and now < known[0]:
            return  # of those refused together the first has the shortest wait
        self._refused[key_id] = (now + min(decision.retry_after, LONGEST), now + decision.retry_after, decision)
        if len(self._refused) > MOST:
            self._refused.popitem(last=False)

    def known(self, key_id: int) -> Decision | None:
        """The refusal that would come again, with the seconds that are left of it."""
        if (refused := self._refused.get(key_id)) is None:
            return None
        until, drained_at, decision = refused
        now = time.monotonic()
        if now >= until:
            del self._refused[key_id]
            return None
        return Decision(decision.outcome, decision.available, drained_at - now, decision.requests, decision.tokens)
