"""What the stand-in upstream and the load generator agree on: the numbers of a call, and the shape of its usage.

The counts of a call are a pure function of its number, and its number is in the answer's id. So the load generator
knows what a call must cost even where the proxy has taken the usage event out of a stream.
"""

from typing import NamedTuple

import msgspec

MODEL = "bench-model"
ID_PREFIX = b"chatcmpl-"
ID_DIGITS = 12
OUTPUT_LIMIT = 512
PACED = "paced"
"""The `user` of a request whose stream is to come event by event, as from a model that thinks."""
SENT_AT = b"sent_at"
"""The field of a paced stream's events that says when they were written: nanoseconds of the machine's monotonic clock."""


class Counts(NamedTuple):
    """`input` includes `cached`, `output` includes `reasoning`, as in OpenAI's usage object."""

    input: int
    output: int
    cached: int
    reasoning: int


def counts_of(number: int) -> Counts:
    """Coprime periods, so that neighbouring bills differ; below the request's bytes and its output limit, so that no
    honest ceiling cuts a cost."""
    return Counts(180 + number * 37 % 97, 40 + number * 53 % 211, number * 29 % 64, number % 23)


def number_in(body: bytes) -> int:
    """The number in an answer's id. Raises `ValueError` where there is none."""
    start = body.index(ID_PREFIX) + len(ID_PREFIX)
    return int(body[start : start + ID_DIGITS])


class InputDetails(msgspec.Struct):
    cached_tokens: int


class OutputDetails(msgspec.Struct):
    reasoning_tokens: int


class Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: InputDetails
    completion_tokens_details: OutputDetails

    @classmethod
    def of(cls, counts: Counts) -> "Usage":
        return cls(
            prompt_tokens=counts.input,
            completion_tokens=counts.output,
            total_tokens=counts.input + counts.output,
            prompt_tokens_details=InputDetails(counts.cached),
            completion_tokens_details=OutputDetails(counts.reasoning),
        )

    def counts(self) -> Counts:
        return Counts(
            self.prompt_tokens,
            self.completion_tokens,
            self.prompt_tokens_details.cached_tokens,
            self.completion_tokens_details.reasoning_tokens,
        )


class Totals(msgspec.Struct):
    """What the stand-in has answered to the end since it started. `open`: streams that are under way."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    open: int = 0
