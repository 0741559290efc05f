"""Percentiles out of the histograms that roll-ups keep, each in one number: see `app/ledger/functions/latency_bucket.sql`.

A percentile is told as the middle of its bucket, by ratio: buckets are 1.1 apart, so that it is off by 5 % at most, from 10 ms on;
below, buckets are whole milliseconds.
"""

import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from math import ceil, sqrt
from struct import unpack

BOUNDS = tuple(dict.fromkeys(round(1.1**step) for step in range(159)))
"""Milliseconds. Bucket 0 is below the first; bucket k begins at `BOUNDS[k - 1]`."""
_ONE_BYTE, _ONE_DIGIT = 256, 10_000
_VALUES = (0, *(round(sqrt(low * (high - 1))) for low, high in pairwise(BOUNDS)), BOUNDS[-1])


def percentiles(histogram: bytes, shares: tuple[float, ...], *, of: int) -> list[int | None]:
    """Of a number as `numeric_send` writes it, of so many calls at most. Milliseconds within which each share of the calls ended;
    None where none has any."""
    if of >= _ONE_DIGIT:
        first, counts = counts_of(histogram)
        reached = list(accumulate(counts))
        return [_VALUES[first + bisect_left(reached, ceil(share * reached[-1]))] if reached[-1] else None for share in shares]
    # as in most of thousands of groups, one digit, or even its last byte, is one count: from the last bucket down
    place = histogram[2] << 8 | histogram[3]
    counted: Sequence[int] = histogram[9 + place % 3 * 2 :: 6]
    if of >= _ONE_BYTE:
        counted = array("H", histogram[8:])[place % 3 :: 3]
        if sys.byteorder == "little":
            counted.byteswap()
    above = list(accumulate(counted, initial=0))
    if not above[-1]:
        return [None] * len(shares)
    last = place // 3 + 1
    return [_VALUES[last - bisect_right(above, longer)] for longer in _longer(above[-1], shares)]


@lru_cache(_ONE_DIGIT)
def _longer(calls: int, shares: tuple[float, ...]) -> list[int]:
    """How many of the calls may take longer than each share of them does."""
    return [calls - ceil(share * calls) for share in shares]


def counts_of(histogram: bytes) -> tuple[int, tuple[int, ...]]:
    """The first bucket that has calls, and the calls of it and of all up to the last one.

    The binary form: how many digits there are, the place of the first (0: ones), sign, decimals, and the digits, to the base of
    10,000, without zeros at the ends; 16 bits each, big-endian. A bucket has three of them.
    """
    number, place = unpack(">hh", histogram[:4])
    last = place - number + 1
    digits = (0,) * (-(place + 1) % 3) + unpack(f">{number}h", histogram[8:]) + (0,) * (last % 3)
    high, middle, counts = digits[::3], digits[1::3], digits[2::3]
    if any(high) or any(middle):
        counts = tuple(a * 10**8 + b * 10**4 + c for a, b, c in zip(high, middle, counts, strict=True))
    return last // 3, counts[::-1]
