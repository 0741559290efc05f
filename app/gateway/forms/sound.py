"""How long a recording is, for billing by the second where the upstream doesn't say.

A file may say anything of itself: what its size can't bear out isn't believed. Sound of a format that has a highest bitrate is
at least as long as its bytes at that rate; of any other, and of what can't be read, speech at 16 kbit/s is supposed. It never
fails.
"""

import math
from typing import BinaryIO, NamedTuple

from tinytag import TinyTag, TinyTagException

SLOWEST, FASTEST = 250, 4_000_000
"""Bytes a second that are believed: speech at 2 kbit/s, and film at 32 Mbit/s."""
USUAL = 2_000
_FASTEST_MPEG = {0b11: 56_000, 0b10: 48_000, 0b01: 40_000}
"""By the two bits that tell the layer, I to III: 448, 384 and 320 kbit/s (ISO/IEC 11172-3, 2.4.2.3)."""
_FASTEST_AAC = 72_000
"""6,144 bits of each of two channels in 1,024 samples at 48 kHz (ISO/IEC 13818-7, 8.2.2)."""
_FASTEST_OPUS = 63_750
"""510 kbit/s (RFC 6716, 2.1.1)."""
_SLACK = 4_096
"""Bytes that may stand around the sound: headers, a frame that tells of the others."""
_MOST_TAGS = 8


class Length(NamedTuple):
    """`seconds`: whole, rounded up, as OpenAI reports them; 0 for an empty file. `is_disbelieved`: the file says less than its size
    bears out, or more."""

    seconds: int
    is_disbelieved: bool = False


SILENCE = Length(0)


def length_of(file: BinaryIO) -> Length:
    size = file.seek(0, 2)
    least = _least(file, size)
    file.seek(0)
    try:
        told = TinyTag.get(file_obj=file, tags=False).duration
    except (TinyTagException, ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, OSError, TypeError, ValueError):
        told = None
    if told is None or not size / FASTEST <= told <= size / SLOWEST:
        return Length(math.ceil(max(size / USUAL, least)), told is not None)
    return Length(math.ceil(max(told, least)), told < least)


def _least(file: BinaryIO, size: int) -> float:
    """Seconds that so many bytes take at the highest bitrate of their format; 0 where that has none."""
    start = 0
    for _ in range(_MOST_TAGS):
        head = _at(file, start)
        if not head.startswith(b"ID3"):
            break
        start += 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=False))
    fastest = _fastest(head, is_tagged=start > 0)
    return max(size - start - _SLACK, 0) / fastest if fastest else 0


def _fastest(head: bytes, *, is_tagged: bool) -> int | None:
    """Bytes a second. Players look for the first frame behind a tag, whatever stands before it."""
    if head[:1] == b"\xff" and len(head) > 1 and head[1] & 0xE0 == 0xE0:
        return _FASTEST_MPEG.get(head[1] >> 1 & 0b11, _FASTEST_AAC)
    if head.startswith(b"OggS"):
        return _FASTEST_OPUS if head[28:36] == b"OpusHead" and head[46:47] == b"\x00" else None
    return None if not is_tagged or head.startswith((b"fLaC", b"RIFF", b"FORM")) else _FASTEST_MPEG[0b01]


def _at(file: BinaryIO, start: int) -> bytes:
    try:
        file.seek(start)
        return file.read(64)
    except OSError:
        return b""
