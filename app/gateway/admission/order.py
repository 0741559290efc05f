"""The order in which a call's routes are tried: by priority, and within one by lot, each with the chance of its weight.

A call that names its session, or the key of its prompt's cache, draws the same lots each time (weighted rendezvous hashing),
so that it finds the upstream again whose cache is warm; an upstream that comes or goes moves only the sessions that it
gains or loses. Lots: -ln(u) / weight for u uniform in (0, 1), the least first (Efraimidis and Spirakis, 2006).
"""

import random
from collections.abc import Sequence
from hashlib import blake2b
from math import log

from app.catalog.routing import Route

_SCALE = 2**64


def in_order(routes: Sequence[Route], affinity: str | None) -> tuple[Route, ...]:
    """`affinity`: what calls have in common that are to go the same way; None: nothing."""
    if len(routes) == 1:
        return tuple(routes)
    return tuple(sorted(routes, key=lambda route: (route.priority, _lot(route, affinity))))


def _lot(route: Route, affinity: str | None) -> float:
    if affinity is None:
        drawn = 1 - random.random()  # noqa: S311 (balancing, no secret)
    else:
        digest = blake2b(f"{route.target.id} {affinity}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
        drawn = (int.from_bytes(digest) + 1) / (_SCALE + 1)
    return -log(drawn) / route.weight
