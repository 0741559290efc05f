"""Pauses of random length, so that replicas that were stopped by one outage don't come back in step."""

import random

_DICE = random.Random()  # noqa: S311 (no secret)


def jittered(seconds: float, *, least: float = 0.5) -> float:
    """From `least` of it to all of it."""
    return seconds * _DICE.uniform(least, 1)
