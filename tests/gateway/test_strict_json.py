"""What only lenient clients can read is read as they do, so that what they got is counted."""

import json

import msgspec
import pytest

from app.gateway.metering.strict_json import is_lenient, strict_json
from tests.gateway.sse import DONE, framed, meter

TEXT = '{"choices":[{"index":0,"delta":{"content":"red"},"logprobs":{"logprob":%s}}]}'


@pytest.mark.parametrize(
    "odd", ["NaN", "-Infinity", "[-Infinity]", "[0, NaN]", "1e999", '"\\ud83d"', '"\\ude00"', '"\\ud83d\\ud83d\\ude00"']
)
def test_texts_beside_what_json_does_not_have_are_counted(odd: str) -> None:
    tap = meter()
    for event in framed([(TEXT % odd).encode(), DONE]):
        tap.feed(event)

    assert tap.take_texts() == ["red"]


@pytest.mark.parametrize("text", ['{"a":"\\ud83d\\ude00"}', '{"a":1.5}', '{"a":"NaN"}', '{"NaN":1}', "{}"])
def test_plain_json_is_not_taken_for_lenient(text: str) -> None:
    assert not is_lenient(text.encode())


def test_counts_and_texts_keep_their_value() -> None:
    read = msgspec.json.decode(strict_json(json.dumps({"a": [7, -7, 2**63, "caf\u00e9 \U0001f600", None, True]}).encode()))

    assert read == {"a": [7, -7, 2**63, "caf\u00e9 \U0001f600", None, True]}


@pytest.mark.parametrize("text", [b"", b"<html>", b"{", b"[" * 100_000, b'{"a":' + b"9" * 10_000 + b"}x"])
def test_what_no_parser_takes_stays_as_it_is(text: bytes) -> None:
    assert strict_json(text) == text
