"""What a load run hands over: a `Summary` on its standard output, each `Call` in a file. Milliseconds, tokens."""

from collections import Counter
from collections.abc import Sequence

import msgspec

from bench.client import Outcome


class Quantiles(msgspec.Struct):
    """In milliseconds; all zero where nothing was measured."""

    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Quantiles":
        ordered = sorted(seconds)
        if not ordered:
            return cls(0.0, 0.0, 0.0)
        return cls(*(round(ordered[int(share * (len(ordered) - 1))] * 1000, 3) for share in (0.5, 0.95, 0.99)))


class Summary(msgspec.Struct):
    """`calls` counts the calls that came to their right end; `failures` says how the others ended. `on_the_way`: of each event
    that says when it was written, all zero where none does."""

    calls: int
    seconds: float
    calls_per_second: float
    latency: Quantiles
    first_byte: Quantiles
    on_the_way: Quantiles
    statuses: dict[str, int]
    failures: dict[str, int]
    input_tokens: int
    output_tokens: int


class Call(msgspec.Struct):
    """A call as its client saw it. `failure` is empty if it came to its right end; else the counts are zero."""

    request_id: str
    failure: str
    input: int
    output: int
    cached: int

    @classmethod
    def of(cls, outcome: Outcome) -> "Call":
        counts = outcome.counts
        if counts is None:
            return cls(outcome.request_id, outcome.failure, 0, 0, 0)
        return cls(outcome.request_id, outcome.failure, counts.input, counts.output, counts.cached)


def summarise(outcomes: Sequence[Outcome], seconds: float, unfinished: int) -> Summary:
    right = [outcome for outcome in outcomes if not outcome.failure]
    failures = Counter(outcome.failure for outcome in outcomes if outcome.failure)
    if unfinished:
        failures["unfinished"] = unfinished
    return Summary(
        calls=len(right),
        seconds=round(seconds, 3),
        calls_per_second=round(len(right) / seconds, 1),
        latency=Quantiles.of([outcome.end - outcome.due for outcome in right]),
        first_byte=Quantiles.of([outcome.first - outcome.due for outcome in right]),
        on_the_way=Quantiles.of([seconds for outcome in right for seconds in outcome.on_the_way]),
        statuses=dict(Counter(str(outcome.status) for outcome in outcomes)),
        failures=dict(failures),
        input_tokens=sum(outcome.counts.input for outcome in right if outcome.counts),
        output_tokens=sum(outcome.counts.output for outcome in right if outcome.counts),
    )
