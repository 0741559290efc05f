"""How long a recording is: as it says where its size bears that out, else by its size. It never fails."""

import io
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.gateway.forms.sound import USUAL, Length, length_of
from tests.harness.forms import sound

HEADS = [sound(0.1), b"ID3\x03\0\0\0\0\0\0\xff\xfb\x90\0", b"OggS", b"fLaC\0\0\0\x22", b"\0\0\0\x20ftypM4A ", b"FORM\0\0\0\0AIFF"]


@pytest.mark.parametrize(("seconds", "told"), [(2, 2), (8.47, 9), (0.001, 1)])
def test_a_wave_file_is_as_long_as_it_says(seconds: float, told: int) -> None:
    assert length_of(io.BytesIO(sound(seconds))) == Length(told)


def test_mp3_is_read() -> None:
    frame = b"\xff\xfb\x90\x00" + b"\x00" * 413  # MPEG-1 layer III, 128 kbit/s, 44.1 kHz: 1,152 samples

    assert length_of(io.BytesIO(frame * 400)).seconds == pytest.approx(400 * 1152 / 44_100, abs=1)


FRAME = b"\xff\xfb\xe0\x00" + b"\x00" * 1040  # 320 kbit/s, 44.1 kHz, without padding: 26 ms
SECOND = FRAME * 38
"""A little less, at the highest bitrate there is."""


def understated(frames: int, *, tag: bytes = b"") -> bytes:
    """Behind a Xing header that tells of these frames only: players play all that are there."""
    xing = b"\xff\xfb\xe0\x00" + b"\x00" * 32 + b"Xing" + (3).to_bytes(4, "big") + frames.to_bytes(4, "big") + (10**6).to_bytes(4, "big")
    return tag + xing.ljust(len(FRAME), b"\x00") + SECOND * 60


@pytest.mark.parametrize(
    "tag", [b"", b"ID3\x04\0\0\0\0\x02\x00" + b"\0" * 256, b"ID3\x04\0\0\0\0\0\x01!!junk"], ids=["plain", "tagged", "junk"]
)
def test_mp3_is_as_long_as_its_bytes_at_the_highest_bitrate_whatever_it_says(tag: bytes) -> None:
    told = length_of(io.BytesIO(understated(40, tag=tag)))

    assert (told.seconds, told.is_disbelieved) == (pytest.approx(60, abs=1), True)


def test_mp3_at_the_highest_bitrate_is_believed() -> None:
    assert length_of(io.BytesIO(understated(38 * 60))) == Length(60)


def test_a_picture_in_a_tag_is_no_sound() -> None:
    picture = 3 * 1024 * 1024
    size = bytes(picture >> shift & 0x7F for shift in (21, 14, 7, 0))
    file = b"ID3\x04\0\0" + size + b"\0" * picture + SECOND * 10

    assert length_of(io.BytesIO(file)) == Length(10)


@pytest.mark.parametrize("rate", [1, 200, 2**31])
def test_what_the_size_can_not_bear_out_is_not_believed(rate: int) -> None:
    lying = bytearray(sound(10))
    lying[28:32] = rate.to_bytes(4, "little")  # bytes a second
    lying[24:28] = (rate // 2 + 1).to_bytes(4, "little")

    assert length_of(io.BytesIO(bytes(lying))) == Length(len(lying) // USUAL + 1, is_disbelieved=True)


@pytest.mark.parametrize(("file", "told"), [(b"", 0), (b"?", 1), (b"\x1aE\xdf\xa3" + b"w" * 9_996, 5)], ids=["empty", "tiny", "webm"])
def test_what_can_not_be_read_is_taken_for_speech(file: bytes, told: int) -> None:
    assert length_of(io.BytesIO(file)) == Length(told)


@given(
    st.sampled_from(HEADS),
    st.binary(max_size=300),
    st.integers(0, 20_000),
    st.lists(st.tuples(st.integers(0, 199), st.integers(0, 255)), max_size=9),
)
def test_it_never_fails(head: bytes, more: bytes, noise: int, damage: list[tuple[int, int]]) -> None:
    file = bytearray(head + more + random.Random(noise).randbytes(noise))
    for at, byte in damage:
        if at < len(file):
            file[at] = byte

    assert 0 <= length_of(io.BytesIO(bytes(file))).seconds <= len(file) // 250 + 1
