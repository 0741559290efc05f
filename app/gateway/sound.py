"""How long a recording is, for billing by the second where the upstream doesn't say.

A file may say anything of itself: what its size can't bear out isn't believed, and what can't be read is taken for speech at
16 kbit/s. It never fails.
"""

import math
from typing import BinaryIO

from tinytag import TinyTag, TinyTagException

SLOWEST, FASTEST = 250, 4_000_000
"""Bytes a second that are believed: speech at 2 kbit/s, and film at 32 Mbit/s."""
USUAL = 2_000


def seconds_of(file: BinaryIO) -> int:
    """Whole seconds, rounded up, as OpenAI reports them; 0 for an empty file."""
    size = file.seek(0, 2)
    file.seek(0)
    try:
        told = TinyTag.get(file_obj=file, tags=False).duration
    except (TinyTagException, ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, OSError, TypeError, ValueError):
        told = None
    if told is None or not size / FASTEST <= told <= size / SLOWEST:
        told = size / USUAL
    return math.ceil(told)
