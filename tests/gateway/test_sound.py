"""How long a recording is: as it says where its size bears that out, else by its size. It never fails."""

import io
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.gateway.sound import USUAL, seconds_of
from tests.harness.forms import sound

HEADS = [sound(0.1), b"ID3\x03\0\0\0\0\0\0\xff\xfb\x90\0", b"OggS", b"fLaC\0\0\0\x22", b"\0\0\0\x20ftypM4A ", b"FORM\0\0\0\0AIFF"]


@pytest.mark.parametrize(("seconds", "told"), [(2, 2), (8.47, 9), (0.001, 1)])
def test_a_wave_file_is_as_long_as_it_says(seconds: float, told: int) -> None:
    assert seconds_of(io.BytesIO(sound(seconds))) == told


def test_mp3_is_read() -> None:
    frame = b"\xff\xfb\x90\x00" + b"\x00" * 413  # MPEG-1 layer III, 128 kbit/s, 44.1 kHz: 1,152 samples

    assert seconds_of(io.BytesIO(frame * 400)) == pytest.approx(400 * 1152 / 44_100, abs=1)


@pytest.mark.parametrize("rate", [1, 200, 2**31])
def test_what_the_size_can_not_bear_out_is_not_believed(rate: int) -> None:
    lying = bytearray(sound(10))
    lying[28:32] = rate.to_bytes(4, "little")  # bytes a second
    lying[24:28] = (rate // 2 + 1).to_bytes(4, "little")

    assert seconds_of(io.BytesIO(bytes(lying))) == len(lying) // USUAL + 1


@pytest.mark.parametrize(("file", "told"), [(b"", 0), (b"?", 1), (b"\x1aE\xdf\xa3" + b"w" * 9_996, 5)], ids=["empty", "tiny", "webm"])
def test_what_can_not_be_read_is_taken_for_speech(file: bytes, told: int) -> None:
    assert seconds_of(io.BytesIO(file)) == told


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

    assert 0 <= seconds_of(io.BytesIO(bytes(file))) <= len(file) // 250 + 1
