"""What upstreams have asked for: not to be called for so many seconds (`Retry-After`), by whatever call.

A rate that is used up (429) is that of one model and one secret; an upstream that is overloaded (503, 529) is so for one model,
by whatever secret. Other upstreams and other secrets serve meanwhile; where none is left, a call is refused with the seconds that remain
(`failover.py`). What was asked for counts for `LONGEST` at most, as a limit may be raised meanwhile. State is this process's own,
in memory, and bounded.
"""

import random
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import ceil, isfinite

from app.catalog.routing import Target
from app.errors import LimitExceeded, ProxyError, Unavailable
from app.gateway.admission.rate_headers import retry_headers
from app.gateway.forwarding.transport import UpstreamAnswer

LONGEST = 300.0
"""Seconds after which an upstream is asked again, whatever it has said."""
MOST = 10_000
"""Cooldowns that are remembered: clients choose the models' names where a wildcard serves them."""


@dataclass(frozen=True, slots=True)
class Cooldown:
    """`until`: when calls may go there again; `told`: when they may as the upstream has it. By the clock of `Cooldowns`."""

    is_rate: bool
    until: float
    told: float


@dataclass(slots=True)
class Cooldowns:
    """A process's. `model`: as the upstream calls it."""

    clock: Callable[[], float] = time.monotonic
    _asked: OrderedDict[tuple[int, str, str | None], Cooldown] = field(default_factory=OrderedDict, repr=False)

    def begin(self, target: Target, model: str, secret: str | None, *, status: int, seconds: float) -> None:
        is_rate, now = status == 429, self.clock()
        which = (target.id, model, secret if is_rate else None)
        self._asked[which] = Cooldown(is_rate, now + min(seconds, LONGEST), now + seconds)
        self._asked.move_to_end(which)
        if len(self._asked) > MOST:
            self._asked.popitem(last=False)

    def of(self, target: Target, model: str) -> Cooldown | None:
        """Under which no secret of the upstream's may be used; None: calls may go there."""
        if not self._asked:
            return None
        if (whole := self._find(target, model, None)) is not None:
            return whole
        asked = [one for secret in target.secrets if (one := self._find(target, model, secret))]
        return min(asked, key=lambda one: one.until) if asked and len(asked) == len(target.secrets) else None

    def left(self, target: Target, model: str) -> float:
        """Seconds until calls may go there; 0: now."""
        cooldown = self.of(target, model)
        return max(cooldown.until - self.clock(), 0.0) if cooldown else 0.0

    def secrets(self, target: Target, model: str) -> frozenset[str]:
        """Those whose rate is used up."""
        if not self._asked:
            return frozenset()
        return frozenset(secret for secret in target.secrets if self._find(target, model, secret))

    def refusal(self, asked: Iterable[Cooldown | None]) -> ProxyError:
        """For a call that may go nowhere: by the one that ends first."""
        first = min(filter(None, asked), key=lambda one: one.told, default=None)
        seconds = max(first.told - self.clock(), 0.001) if first else 1.0
        whole, finer = ceil(seconds), retry_headers(seconds)
        if first and first.is_rate:
            text = f"The upstream takes no more calls of this model for now. Try again in {whole} s."
            return LimitExceeded(text, code="upstream_rate_limited", retry_after=whole, headers=finer)
        text = f"The upstream is overloaded and has asked for a pause. Try again in {whole} s."
        return Unavailable(text, code="upstream_overloaded", retry_after=whole, headers=finer)

    def _find(self, target: Target, model: str, secret: str | None) -> Cooldown | None:
        found = self._asked.get((target.id, model, secret))
        if found is not None and found.until <= self.clock():
            del self._asked[target.id, model, secret]
            return None
        return found


def retry_after(answer: UpstreamAnswer) -> float | None:
    """Seconds, of `Retry-After` (RFC 9110, 10.2.3: seconds or a date), or OpenAI's finer `retry-after-ms`."""
    named = {name.lower(): value.decode("latin-1").strip() for name, value in answer.raw_headers}
    seconds: float | None = None
    with suppress(ValueError):
        if milliseconds := named.get(b"retry-after-ms"):
            seconds = float(milliseconds) / 1000
    told = named.get(b"retry-after", "")
    if seconds is None and told.isdecimal():
        seconds = float(told)
    elif seconds is None and told:
        with suppress(ValueError):
            at = parsedate_to_datetime(told)
            seconds = (at - datetime.now(at.tzinfo and UTC)).total_seconds()
    return max(seconds, 0.0) if seconds is not None and isfinite(seconds) else None


def apart(seconds: float) -> float:
    """With up to a tenth more, so that all who were told the same don't come at once."""
    return seconds * random.uniform(1, 1.1)  # noqa: S311 (no secret)
