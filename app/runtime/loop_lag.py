"""By how much the event loop is late: what keeps it busy delays all calls of the process."""

import asyncio

from app.metrics.family import Histogram

EVERY = 0.25
"""Seconds."""


async def measure_loop_lag(lag: Histogram) -> None:
    """Until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + EVERY
        await asyncio.sleep(EVERY)
        lag.observe(max(loop.time() - due, 0))
