"""How fast an address may be wrong: keys and tokens are random enough, and yet nobody shall try them by the million, or keep
the database busy with it.

Each address may be wrong so many times a minute; beyond it, what is not known here to be right is refused unread, until the
minute's share has come back. Each process counts by itself. Of IPv6 a /64 counts as one, as anybody has one.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

from app.errors import LimitExceeded

MOST_ADDRESSES = 10_000
"""That are remembered: of more than these, those are forgotten that have been wrong least lately."""


class Guesses:
    """`per_minute`: wrong ones of an address; 0: as many as it likes."""

    def __init__(self, per_minute: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = per_minute
        self._clock = clock
        self._wrong: OrderedDict[str, tuple[float, float]] = OrderedDict()  # how many, as of when

    def check(self, address: str | None) -> None:
        """Raises `LimitExceeded` for an address that has been wrong too often."""
        if not self._wrong or (network := _network(address)) not in self._wrong:
            return
        excess = self._level(network) - self._most + 1
        if self._most and excess > 0:
            raise LimitExceeded(
                "Too many wrong keys or tokens came from your address. Check the one that your client sends, and try again shortly.",
                code="too_many_wrong_keys",
                retry_after=int(excess * 60 / self._most) + 1,
            )

    def wrong(self, address: str | None) -> None:
        network = _network(address)
        self._wrong[network] = (self._level(network) + 1, self._clock())
        self._wrong.move_to_end(network)
        if len(self._wrong) > MOST_ADDRESSES:
            self._wrong.popitem(last=False)

    def _level(self, network: str) -> float:
        level, since = self._wrong.get(network, (0.0, 0.0))
        return max(0.0, level - (self._clock() - since) * self._most / 60)


def _network(address: str | None) -> str:
    try:
        parsed = ip_address(address or "")
    except ValueError:
        return ""
    if isinstance(parsed, IPv6Address) and not parsed.ipv4_mapped:
        return parsed.exploded[:19]
    return str(parsed)
