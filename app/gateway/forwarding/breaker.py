"""A circuit breaker for each upstream: one that keeps failing is left alone for a while, as long as others can serve.

    closed      calls go there. After `IN_A_ROW` failures one after another, or where at least half of the calls of the last
                `WINDOW` seconds failed and these were `ENOUGH` or more, it opens
    open        it is passed over for `pause` seconds, give or take `JITTER`, so that processes don't come back as one
    half_open   one call tries: if it succeeds the breaker closes, else it is open again, for twice as long, up to `LONGEST_PAUSE`

What an upstream refuses for a client's fault (4xx), or for its rate (429), is no failure. An answer that breaks off after it
began counts as a success and a failure. State is this process's own, in memory, and never a reason to refuse a call: where
all are open, the one that is due soonest is tried (`failover.py`). Upstreams without a recent failure have no entry.
"""

import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

State = Literal["closed", "open", "half_open"]

IN_A_ROW = 5
WINDOW = 30.0
"""Seconds in which calls are counted; after them, counting starts anew."""
ENOUGH = 20
LONGEST_PAUSE = 60.0
JITTER = 0.2


@dataclass(slots=True)
class _Health:
    """Of an upstream that failed. `due`: when it may be tried again; None: it is closed. `is_tried`: one call is trying."""

    since: float
    calls: int = 0
    failures: int = 0
    in_a_row: int = 0
    due: float | None = None
    pause: float = 0.0
    is_tried: bool = False


@dataclass(slots=True)
class Breakers:
    """By the upstreams' ids. `pause`: seconds for which one is open at first. Every `may_try` that was followed is told its end:
    `succeeded`, `failed`, or `undecided`."""

    pause: float
    clock: Callable[[], float] = time.monotonic
    _failing: dict[int, _Health] = field(default_factory=dict)

    def may_try(self, upstream_id: int) -> bool:
        """Whether a call may go there now. Of an open upstream that is due, only the first that asks may."""
        health = self._failing.get(upstream_id)
        if health is None or health.due is None:
            return True
        if health.is_tried or self.clock() < health.due:
            return False
        health.is_tried = True
        return True

    def soonest(self, upstream_ids: Iterable[int]) -> int:
        """Which of these is due soonest; of equals, the first."""
        return min(upstream_ids, key=self._due)

    def succeeded(self, upstream_id: int) -> None:
        health = self._failing.get(upstream_id)
        if health is None:
            return
        if health.due is not None or self._is_over(health):
            del self._failing[upstream_id]
            return
        health.calls += 1
        health.in_a_row = 0

    def failed(self, upstream_id: int) -> None:
        health = self._failing.get(upstream_id)
        if health is None or (health.due is None and self._is_over(health)):
            in_a_row = health.in_a_row if health else 0
            health = self._failing[upstream_id] = _Health(self.clock(), in_a_row=in_a_row)
        health.calls += 1
        health.failures += 1
        health.in_a_row += 1
        if health.due is not None:
            if health.is_tried or self.clock() >= health.due:
                self._open(health, min(2 * health.pause, LONGEST_PAUSE))
        elif health.in_a_row >= IN_A_ROW or (health.calls >= ENOUGH and 2 * health.failures >= health.calls):
            self._open(health, self.pause)

    def undecided(self, upstream_id: int) -> None:
        """The call says nothing of the upstream: its client left, or a rate was exceeded."""
        health = self._failing.get(upstream_id)
        if health is not None:
            health.is_tried = False

    def state(self, upstream_id: int) -> State:
        health = self._failing.get(upstream_id)
        if health is None or health.due is None:
            return "closed"
        return "open" if self.clock() < health.due else "half_open"

    def _open(self, health: _Health, pause: float) -> None:
        health.pause = pause
        health.is_tried = False
        health.due = self.clock() + pause * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 (no secret)

    def _due(self, upstream_id: int) -> float:
        health = self._failing.get(upstream_id)
        return 0.0 if health is None or health.due is None else health.due

    def _is_over(self, health: _Health) -> bool:
        return self.clock() - health.since > WINDOW
