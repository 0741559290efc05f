"""Whatever an upstream says of its usage: it is read without fail, and never becomes a count that can't be true."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.billing.usage import LARGEST_COUNT, Usage
from app.gateway.protocols import openai

COUNTS = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
)
FIELDS = ("prompt_tokens", "completion_tokens", "total_tokens", "prompt_cache_hit_tokens", "cached_tokens")
PARTS = ("cached_tokens", "cache_write_tokens", "reasoning_tokens", "audio_tokens")

hostile = st.one_of(
    st.integers(0, 1000),
    st.sampled_from([-1, -(10**30), LARGEST_COUNT, LARGEST_COUNT + 1, 2**63, 10**400, True, False, None, "7", "", [], {}, [7], 1.0]),
    st.floats(),
    st.text(max_size=3),
)
details = st.one_of(hostile, st.dictionaries(st.sampled_from(PARTS), hostile))
reports = st.one_of(
    hostile,
    st.builds(
        lambda counts, of_prompt, of_completion: counts | {"prompt_tokens_details": of_prompt, "completion_tokens_details": of_completion},
        st.dictionaries(st.sampled_from(FIELDS), hostile),
        details,
        details,
    ),
    st.fixed_dictionaries(
        {"prompt_tokens": st.integers(0, LARGEST_COUNT), "completion_tokens": st.integers(0, LARGEST_COUNT)},
        optional={"prompt_tokens_details": details, "completion_tokens_details": details, "cached_tokens": hostile},
    ),
)


def assert_true(usage: Usage | None) -> None:
    """All counts fit their columns, and the parts that are billed add up to the two wholes."""
    if usage is None:
        return
    counts = [getattr(usage, name) for name in COUNTS]
    assert all(type(count) is int and 0 <= count <= LARGEST_COUNT for count in counts), usage
    meters = usage.meters()
    assert all(quantity > 0 for quantity in meters.values())
    assert sum(meters.get(name, 0) for name in ("input", "cache_read", "cache_write", "audio_input")) == usage.input_tokens
    assert sum(meters.get(name, 0) for name in ("output", "reasoning", "audio_output")) == usage.output_tokens


@given(reports)
def test_a_hostile_report_is_read_or_is_none(reported: Any) -> None:
    assert_true(openai.read_usage(reported))


@given(reports, st.sampled_from(["usage", "x_groq", "choices", "error"]), reports)
def test_a_hostile_event_is_read_without_fail(reported: Any, where: str, other: Any) -> None:
    answer = {"choices": [{"usage": reported}, other], "x_groq": {"usage": reported}, "usage": reported} | {where: other}
    text = json.dumps(answer).encode()

    assert_true(openai.usage_of_answer(text))
    assert_true(openai.usage_of_answer(b"..." + text))
    told = openai.read_event(b"data: " + text + b"\n\n")
    assert_true(told.usage)
    assert told.error is None or isinstance(told.error, str)
    openai.choices(text)


@pytest.mark.parametrize(
    "reported",
    [
        {},
        {"prompt_tokens": 1},
        {"completion_tokens": 1},
        {"prompt_tokens": 1, "completion_tokens": -1},
        {"prompt_tokens": 5, "total_tokens": 3},
        {"prompt_tokens": LARGEST_COUNT + 1, "completion_tokens": 1},
        {"prompt_tokens": True, "completion_tokens": 1},
        {"prompt_tokens": 1.0, "completion_tokens": 1},
        {"prompt_tokens": "1", "completion_tokens": 1},
    ],
    ids=str,
)
def test_a_report_that_lacks_a_true_count_is_none(reported: dict[str, Any]) -> None:
    assert openai.read_usage(reported) is None


@pytest.mark.parametrize("where", ["prompt_cache_hit_tokens", "cached_tokens", "prompt_tokens_details"])
def test_parts_that_can_not_be_true_count_as_none(where: str) -> None:
    for part in (-1, True, "9", 2**40, None, 1e3):
        value = {"cached_tokens": part} if where == "prompt_tokens_details" else part
        assert openai.read_usage({"prompt_tokens": 9, "completion_tokens": 1, where: value}) == Usage(9, 1)


def test_an_embedding_reports_no_output() -> None:
    assert openai.read_usage({"prompt_tokens": 9, "total_tokens": 9}) == Usage(9, 0)


HALF = b'"usage":{"prompt_tokens":9,"completion_tokens":1}}'


@pytest.mark.parametrize(
    "answer", [HALF, b"..." + HALF, HALF + b"\n\ndata: [DONE]\n\n", b'"usage":{}' + HALF, HALF + b',"usage":{"a":'], ids=str
)
def test_of_an_answer_that_is_not_whole_the_last_report_is_found(answer: bytes) -> None:
    assert openai.usage_of_answer(answer) == Usage(9, 1)


NESTED = b'{"usage":' + b'{"a":' * 1500 + b"1" + b"}" * 1501


@pytest.mark.parametrize("answer", [b"", b"\xff", b"\x00" * 9, b"[" * 100_000, b'"usage":{' * 500, b'{"usage":{"prompt_tokens":1e999}}'])
def test_what_is_no_json_has_no_usage(answer: bytes) -> None:
    assert openai.usage_of_answer(answer) is None
    assert openai.read_event(b"data: " + answer + b"\n\n").usage is None
    assert openai.choices(answer) == []


@pytest.mark.parametrize(
    "answer", [NESTED, b'{"usage":{"a":"\xff"}}', b'data: {"usage":{"a":"\xff"}}'], ids=["nested", "not UTF-8", "event"]
)
def test_usage_that_can_not_be_decoded_is_none(answer: bytes) -> None:
    assert openai.usage_of_answer(answer) is None


@pytest.mark.parametrize(("total", "output"), [(50, 40), (40, 30), (None, 30)])
def test_reasoning_that_is_counted_beside_the_completion_is_output_too(total: int | None, output: int) -> None:
    reported = {"prompt_tokens": 10, "completion_tokens": 30, "total_tokens": total, "completion_tokens_details": {"reasoning_tokens": 10}}

    usage = openai.read_usage(reported)

    assert usage is not None
    assert (usage.output_tokens, usage.reasoning_tokens) == (output, 10)
