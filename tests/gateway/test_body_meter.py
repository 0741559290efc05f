"""Of an answer that is no stream, all passes but the end, which waits for the row; what is kept of it can be read."""

import gzip
import json
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.billing.usage import Usage
from app.gateway.metering.meter import KEPT_END, LARGEST_COPY, BodyMeter
from app.gateway.protocols import openai
from tests.gateway.sse import USAGE, every

REPORTED = Usage(input_tokens=11, output_tokens=7)
ANSWER = json.dumps({"choices": [], "usage": USAGE}).encode()
chunks = st.lists(st.binary(min_size=1, max_size=9), min_size=1, max_size=9)


def fed(body: bytes, *, encoding: str | None = None, size: int = 65_536) -> BodyMeter:
    tap = BodyMeter(length=None, encoding=encoding)
    for piece in every(body, size):
        tap.feed(piece)
    return tap


@given(chunks)
def test_all_but_the_last_byte_passes(pieces: list[bytes]) -> None:
    tap = BodyMeter(length=None, encoding=None)
    whole = b"".join(pieces)

    assert b"".join(tap.feed(piece) for piece in pieces) == whole[:-1]
    assert (tap.release(), tap.release()) == (whole[-1:], b"")
    assert (tap.received, tap.answer()) == (len(whole), whole)


@given(chunks)
def test_where_the_length_is_known_the_whole_last_chunk_waits(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    tap = BodyMeter(length=len(whole), encoding=None)

    first = b"".join(tap.feed(piece) for piece in pieces)
    last = tap.release()
    assert first + last == whole
    assert last.endswith(pieces[-1])


def test_an_answer_without_a_body_leaves_nothing() -> None:
    tap = BodyMeter(length=0, encoding=None)

    assert (tap.release(), tap.answer(), tap.received) == (b"", b"", 0)


@pytest.mark.parametrize("encoding", [None, "identity", "", " Identity "])
def test_a_plain_body_is_read_as_it_is(encoding: str | None) -> None:
    assert fed(ANSWER, encoding=encoding).answer() == ANSWER


@pytest.mark.parametrize("size", [1, 65_536])
@pytest.mark.parametrize(
    ("encoding", "pack"),
    [("gzip", gzip.compress), ("GZIP", gzip.compress), (" x-gzip", gzip.compress), ("deflate", zlib.compress), ("Deflate", zlib.compress)],
)
def test_a_compressed_body_passes_as_it_is_and_is_read_unpacked(encoding: str, pack: Callable[[bytes], bytes], size: int) -> None:
    packed = pack(ANSWER)
    tap = BodyMeter(length=None, encoding=encoding)

    assert b"".join([*(tap.feed(piece) for piece in every(packed, size)), tap.release()]) == packed
    assert tap.answer() == ANSWER


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, br", "compress", "nonsense"])
def test_an_encoding_that_can_not_be_read_here_reads_as_nothing(encoding: str) -> None:
    tap = fed(ANSWER, encoding=encoding)

    assert (tap.answer(), tap.received) == (b"", len(ANSWER))


@pytest.mark.parametrize("body", [b"no gzip at all", gzip.compress(ANSWER)[:4], b"\x1f\x8b" + b"\xff" * 50])
def test_what_only_claims_to_be_compressed_never_raises(body: bytes) -> None:
    assert fed(body, encoding="gzip").answer() == b""


def test_a_compressed_body_that_unpacks_to_gigabytes_is_not_unpacked_whole() -> None:
    bomb = gzip.compress(b" " * (LARGEST_COPY * 4), compresslevel=1)

    assert len(fed(bomb, encoding="gzip").answer()) == LARGEST_COPY


FILLER = json.dumps("x" * 1000).encode()
LARGE = b",".join([FILLER] * (LARGEST_COPY * 5 // 2 // len(FILLER)))
TOLD = b'"usage":' + json.dumps(USAGE).encode()


@pytest.mark.parametrize(
    "body", [b"{" + TOLD + b',"data":[' + LARGE + b"]}", b'{"data":[' + LARGE + b"]," + TOLD + b"}"], ids=["first", "last"]
)
def test_of_a_very_large_body_both_ends_are_kept_and_usage_is_found(body: bytes) -> None:
    tap = fed(body)
    answer = tap.answer()

    assert len(answer) <= KEPT_END + LARGEST_COPY
    assert (answer[:100], answer[-KEPT_END:]) == (body[:100], body[-KEPT_END:])
    assert openai.usage_of_answer(answer) == REPORTED
    assert tap.received == len(body)


def test_a_body_of_just_the_largest_size_is_kept_whole() -> None:
    body = ANSWER.rjust(LARGEST_COPY)

    assert fed(body).answer() == body
