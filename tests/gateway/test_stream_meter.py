"""What a stream's client gets is what the upstream sent, however it was cut; only an event that we asked for is taken out,
and the end of the terminal event waits."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.billing.usage import Usage
from tests.gateway.sse import DONE, LINE_ENDS, USAGE, chunk, cut, cut_streams, every, framed, meter, passed

ENDS = pytest.mark.parametrize("line_end", LINE_ENDS, ids=["LF", "CRLF", "CR"])
REPORTED = Usage(input_tokens=11, output_tokens=7)
ONLY_USAGE = chunk(None, usage=USAGE)


@given(cut_streams())
def test_the_bytes_of_any_stream_pass_unchanged_however_it_is_cut(pieces: list[bytes]) -> None:
    assert passed(meter(), pieces) == b"".join(pieces)


@given(st.sampled_from(LINE_ENDS), st.lists(st.integers(0, 800), max_size=10))
def test_what_is_told_and_taken_out_does_not_depend_on_the_cuts(line_end: bytes, offsets: list[int]) -> None:
    first, second, usage, done = framed([chunk("caf\u00e9"), chunk(" au lait"), ONLY_USAGE, DONE], line_end)
    tap = meter(strips=True)

    assert passed(tap, cut(first + second + usage + done, offsets)) == first + second + done
    assert (tap.usage, tap.terminal, tap.take_texts()) == (REPORTED, True, ["caf\u00e9", " au lait"])


@ENDS
def test_a_stream_may_come_byte_by_byte(line_end: bytes) -> None:
    whole = b"".join(framed([chunk("a"), ONLY_USAGE, DONE], line_end))
    tap = meter()

    assert passed(tap, every(whole, 1)) == whole
    assert (tap.usage, tap.terminal) == (REPORTED, True)


@pytest.mark.parametrize(
    "data",
    [
        chunk("a", usage=USAGE),
        chunk("", usage=USAGE),
        chunk(None, usage=None),
        chunk(None, x_groq={"usage": USAGE}),
        json.dumps({"usage": USAGE}).encode(),
        json.dumps({"choices": None, "usage": USAGE}).encode(),
        b'{"choices":[],"error":{"message":"x"}}',
        b'{"choices":[],"usage":[]}',
        b'{"choices":[],"usage":{',
    ],
)
def test_an_event_that_is_there_for_another_reason_is_never_taken_out(data: bytes) -> None:
    whole = b"".join(framed([chunk("a"), data, chunk("b"), DONE]))

    assert passed(meter(strips=True), [whole]) == whole


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_an_event_of_usage_alone_is_taken_out_only_where_we_asked_for_it(size: int) -> None:
    text, usage, done = framed([chunk("a"), ONLY_USAGE, DONE])

    assert passed(meter(strips=True), every(text + usage + done, size)) == text + done
    assert passed(meter(strips=False), every(text + usage + done, size)) == text + usage + done


@ENDS
def test_of_the_terminal_event_all_but_the_line_end_passes_and_the_rest_waits(line_end: bytes) -> None:
    text, done = framed([chunk("a"), DONE], line_end)
    after = b": bye" + line_end * 2 + b": by"
    tap = meter()

    assert tap.feed(text + done + after) == text + b"data: [DONE]"
    assert tap.terminal
    assert tap.feed(b"e") == b""
    assert tap.release() == line_end * 2 + after + b"e"
    assert tap.release() == b""


@pytest.mark.parametrize(
    "last",
    [
        chunk("", usage=USAGE),
        chunk("", x_groq={"id": "r", "usage": USAGE}),
        json.dumps({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": USAGE}]}).encode(),
        chunk("", usage=None, x_groq={"usage": USAGE}),
        ONLY_USAGE,
    ],
    ids=["top", "x_groq", "choice", "null beside x_groq", "alone"],
)
def test_usage_is_found_wherever_a_provider_puts_it(last: bytes) -> None:
    tap = meter()
    passed(tap, framed([chunk("a", usage=None), last, DONE]))

    assert tap.usage == REPORTED


def test_the_last_report_of_a_stream_that_reports_as_it_goes_counts() -> None:
    tap = meter()
    passed(tap, framed([chunk("a", usage={"prompt_tokens": 11, "completion_tokens": n}) for n in range(8)] + [chunk("", usage=None)]))

    assert tap.usage == REPORTED


def test_without_a_report_there_is_no_usage() -> None:
    tap = meter()
    passed(tap, framed([chunk("a", usage=None), chunk(' "usage": {"prompt_tokens": 1, "completion_tokens": 9}'), DONE]))

    assert tap.usage is None


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\r"])
def test_a_last_event_without_a_blank_line_is_read_and_passes_at_the_end(end: bytes) -> None:
    last = b"data: " + chunk("", usage=USAGE) + end
    tap = meter(strips=True)

    assert tap.feed(last) == b""
    tap.finish()
    assert (tap.usage, tap.release()) == (REPORTED, last)


def test_a_last_event_of_usage_alone_is_taken_out_also_without_a_blank_line() -> None:
    text, usage = framed([chunk("a"), ONLY_USAGE])

    assert passed(meter(strips=True), [text + usage.rstrip()]) == text
    assert passed(meter(strips=False), [text + usage.rstrip()]) == text + usage.rstrip()


def test_a_terminal_event_without_a_blank_line_is_one() -> None:
    tap = meter()

    assert tap.feed(b"data: [DONE]") == b""
    tap.finish()
    assert (tap.terminal, tap.release()) == (True, b"data: [DONE]")


def test_an_error_event_is_told_and_passes() -> None:
    whole = b"".join(framed([chunk("a"), b'{"error":{"message":"overloaded","code":529}}']))
    tap = meter(strips=True)

    assert passed(tap, every(whole, 5)) == whole
    assert tap.error == "overloaded"


@pytest.mark.parametrize("blank", [b"\n", b"\n\n\n"], ids=["3", "5"])
def test_an_odd_number_of_line_ends_after_an_event_passes_unchanged(blank: bytes) -> None:
    whole = b"".join(framed([chunk("a", usage=USAGE)])) + blank

    assert passed(meter(), [whole]) == whole


def test_the_text_of_a_last_event_without_a_blank_line_counts_as_delivered() -> None:
    tap = meter()
    passed(tap, [b"data: " + chunk("delivered")])

    assert tap.take_texts() == ["delivered"]
