"""A provider's counts become disjoint meters: no token is billed twice, and none is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.billing.usage import Usage
from tests.billing.strategies import reported_usages

INPUT = ("input", "cache_read", "cache_write", "audio_input")
OUTPUT = ("output", "reasoning", "audio_output")


def total(meters: dict[str, int], kinds: tuple[str, ...]) -> int:
    return sum(meters.get(kind, 0) for kind in kinds)


@given(reported_usages)
def test_the_meters_of_a_side_add_up_to_the_side(usage: Usage) -> None:
    meters = usage.meters()

    assert total(meters, INPUT) == usage.input_tokens
    assert total(meters, OUTPUT) == usage.output_tokens
    assert set(meters) <= {*INPUT, *OUTPUT}


@given(reported_usages)
def test_every_meter_counts_something_and_no_more_than_was_reported(usage: Usage) -> None:
    meters = usage.meters()

    assert all(quantity > 0 for quantity in meters.values())
    assert meters.get("cache_read", 0) <= usage.cache_read_tokens
    assert meters.get("cache_write", 0) <= usage.cache_write_tokens
    assert meters.get("audio_input", 0) <= usage.audio_input_tokens
    assert meters.get("reasoning", 0) <= usage.reasoning_tokens
    assert meters.get("audio_output", 0) <= usage.audio_output_tokens


@given(st.data())
def test_parts_that_fit_their_whole_are_kept_as_reported(data: st.DataObject) -> None:
    text, read, write, audio, said, thought, spoken = (data.draw(st.integers(1, 10**6)) for _ in range(7))

    usage = Usage(
        input_tokens=text + read + write + audio,
        output_tokens=said + thought + spoken,
        cache_read_tokens=read,
        cache_write_tokens=write,
        reasoning_tokens=thought,
        audio_input_tokens=audio,
        audio_output_tokens=spoken,
    )

    assert usage.meters() == {
        "input": text,
        "cache_read": read,
        "cache_write": write,
        "audio_input": audio,
        "output": said,
        "reasoning": thought,
        "audio_output": spoken,
    }


@pytest.mark.parametrize(
    ("usage", "meters"),
    [
        (Usage(input_tokens=10, cache_read_tokens=25), {"cache_read": 10}),
        (Usage(input_tokens=10, cache_read_tokens=7, cache_write_tokens=7), {"cache_read": 7, "cache_write": 3}),
        (Usage(input_tokens=10, cache_write_tokens=6, audio_input_tokens=9), {"cache_write": 6, "audio_input": 4}),
        (Usage(output_tokens=10, reasoning_tokens=64), {"reasoning": 10}),
        (Usage(output_tokens=10, reasoning_tokens=4, audio_output_tokens=64), {"reasoning": 4, "audio_output": 6}),
        (Usage(cache_read_tokens=5, reasoning_tokens=5), {}),
    ],
)
def test_a_part_larger_than_its_whole_is_cut_at_what_is_left(usage: Usage, meters: dict[str, int]) -> None:
    assert usage.meters() == meters


def test_a_side_never_lends_to_the_other() -> None:
    assert Usage(input_tokens=1, output_tokens=100, cache_read_tokens=50).meters() == {"cache_read": 1, "output": 100}


def test_what_is_no_token_is_counted_beside_the_tokens() -> None:
    usage = Usage(input_tokens=10, output_tokens=5, extra={"web_search": 3, "image": 0})

    assert usage.meters() == {"input": 10, "output": 5, "web_search": 3}


def test_no_use_has_no_meters() -> None:
    assert Usage().meters() == {}
