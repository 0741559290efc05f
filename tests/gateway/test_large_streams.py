"""Events too large to be kept, and streams too long: both are metered in constant memory."""

import random
import tracemalloc

import pytest

from app.billing.usage import Usage
from app.gateway.metering.meter import FOLD_AT, LARGEST_EVENT, StreamMeter
from tests.gateway.sse import DONE, USAGE, chunk, every, framed, meter, passed

REPORTED = Usage(input_tokens=11, output_tokens=7)
MEGABYTE = 1_000_000
PIECE = 32_768
BIG = "b" * 300_000


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("size", [997, PIECE, LARGEST_EVENT, LARGEST_EVENT + 2])
def test_a_large_event_passes_unchanged_and_its_usage_is_read(size: int, line_end: bytes) -> None:
    whole = b"".join(framed([chunk("a"), chunk(BIG, usage=USAGE), chunk("z"), DONE], line_end))
    tap = meter(strips=True)

    assert passed(tap, every(whole, size)) == whole
    assert (tap.usage, tap.terminal) == (REPORTED, True)


def test_a_large_event_begins_to_pass_before_it_has_ended() -> None:
    event = framed([chunk(BIG)])[0]
    tap = meter()

    assert tap.feed(event[:LARGEST_EVENT]) == b""
    assert tap.feed(event[LARGEST_EVENT : LARGEST_EVENT + 10]) == event[: LARGEST_EVENT + 7]


def test_bytes_of_a_large_event_are_counted_as_they_pass() -> None:
    tap = meter()
    for piece in every(b"data: " + b"b" * MEGABYTE, PIECE):
        tap.feed(piece)

    assert tap.unread_bytes == MEGABYTE + len(b"data: ") - 3


def test_a_whole_large_event_is_counted_to_less_than_its_last_piece() -> None:
    [event] = framed([chunk(BIG)])
    tap = meter()
    passed(tap, every(event, PIECE))

    assert len(event) - PIECE <= tap.unread_bytes <= len(event)


def test_an_event_just_within_the_limit_is_read_and_not_counted_by_bytes() -> None:
    text = "b" * (LARGEST_EVENT - len(framed([chunk("")])[0]))
    tap = meter()
    passed(tap, every(framed([chunk(text)])[0], PIECE))

    assert (tap.unread_bytes, tap.take_texts()) == (0, [text])


def test_usage_of_a_large_event_replaces_an_earlier_one_and_none_keeps_it() -> None:
    earlier = chunk("a", usage={"prompt_tokens": 1, "completion_tokens": 1})
    for last, expected in ((chunk(BIG, usage=USAGE), REPORTED), (chunk(BIG), Usage(1, 1))):
        tap = meter()
        passed(tap, every(b"".join(framed([earlier, last])), PIECE))
        assert tap.usage == expected


def test_usage_of_a_large_event_that_ends_with_the_stream_is_read() -> None:
    tap = meter()
    passed(tap, every(b"data: " + chunk(BIG, usage=USAGE), PIECE))

    assert tap.usage == REPORTED


def test_the_delivered_texts_are_all_there_across_folding() -> None:
    dice = random.Random(7)
    told = [f"{n} " * dice.randint(1, 40) for n in range(3000)]
    whole = b"".join(framed([chunk(text) for text in told] + [DONE]))
    assert len(whole) > 5 * FOLD_AT

    for size in (301, 5000, len(whole)):
        tap = meter()
        taken: list[str] = []
        for at, piece in enumerate(every(whole, size)):
            tap.feed(piece)
            if at % 50 == 0:
                taken += tap.take_texts()
        assert taken + tap.take_texts() == told
        assert tap.take_texts() == []


def grown(tap: StreamMeter, piece: bytes, *, times: int) -> int:
    """Bytes of memory at the most, while a stream passes and its texts are taken as they become many."""
    tracemalloc.start()
    try:
        for _ in range(times):
            tap.feed(piece)
            if tap.texts_are_many:
                tap.take_texts()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_stream_of_50_megabytes_takes_little_memory() -> None:
    block = b"".join(framed([chunk("some words of it" * 20)] * 300))

    assert grown(meter(), block, times=50 * MEGABYTE // len(block)) < 8 * MEGABYTE


def test_an_event_of_50_megabytes_takes_little_memory() -> None:
    assert grown(meter(), b"x" * PIECE, times=50 * MEGABYTE // PIECE) < 2 * MEGABYTE


def test_50_megabytes_of_long_texts_take_little_memory() -> None:
    block = b"".join(framed([chunk("x" * 100_000)]))

    assert grown(meter(), block, times=50 * MEGABYTE // len(block)) < 8 * MEGABYTE
