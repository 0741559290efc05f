"""Which of an upstream's secrets a call takes: each in its turn. One that was refused is set aside for a while.

Where all are set aside they are taken in turn all the same: the upstream may have mended it.
"""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from app.catalog.routing import Target

SET_ASIDE = 60.0
"""Seconds for which a secret that was refused (401, 403) isn't taken."""


@dataclass(slots=True)
class Keyring:
    clock: Callable[[], float] = time.monotonic
    _turn: int = 0
    _aside: dict[tuple[int, str], float] = field(default_factory=dict, repr=False)

    def take(self, target: Target, *, cooling: Collection[str] = ()) -> str | None:
        """The secret for one attempt, of those that aren't `cooling` if possible; None where the upstream needs none."""
        secrets = target.secrets
        if len(secrets) < 2:
            return target.secret
        usable = self._usable(target) or secrets
        usable = tuple(secret for secret in usable if secret not in cooling) or usable
        self._turn += 1
        return usable[self._turn % len(usable)]

    def refused(self, target: Target, secret: str | None) -> bool:
        """Sets it aside; returns whether there is another one to take."""
        if secret is None or len(target.secrets) < 2:
            return False
        self._aside[target.id, secret] = self.clock() + SET_ASIDE
        return bool(self._usable(target))

    def _usable(self, target: Target) -> tuple[str, ...]:
        if not self._aside:
            return target.secrets
        now = self.clock()
        self._aside = {which: until for which, until in self._aside.items() if until > now}
        return tuple(secret for secret in target.secrets if (target.id, secret) not in self._aside)
