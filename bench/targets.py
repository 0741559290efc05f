"""What the runs come to, beside what they are meant to come to. Pure; what wasn't measured has no line.

Ratios and differences are of one run on one machine: absolute times are not compared with those of any other.
"""

from collections.abc import Callable, Sequence

import msgspec

from bench.measure import DIRECT, OURS, Result

UNARY, STREAM = "unary", "100-event stream"
OPEN, PACED = "unary, open loop", "paced stream, open loop"


class Line(msgspec.Struct):
    what: str
    measured: float
    bound: float
    is_least: bool = False
    unit: str = ""

    @property
    def holds(self) -> bool:
        return self.measured >= self.bound if self.is_least else self.measured <= self.bound


def lines_of(results: Sequence[Result]) -> list[Line]:
    of = {(result.run, result.in_flight, result.through): result for result in results}
    return [*_against_peers(of), *_of_the_database(of), *_latencies(of)]


_Results = dict[tuple[str, str, str], Result]


def _against_peers(of: _Results) -> list[Line]:
    bounds = (
        (UNARY, "nginx", 16.0),
        (STREAM, "nginx", 1.6),
        (UNARY, "Portkey", 1 / 5),
        (UNARY, "LiteLLM", 1 / 40),
        (STREAM, "LiteLLM", 1 / 90),
    )
    found = []
    for run, peer, most in bounds:
        ours, theirs = of.get((run, "32", OURS)), of.get((run, "32", peer))
        if ours and theirs and ours.proxy_cpu_us and theirs.proxy_cpu_us:
            share = ours.proxy_cpu_us / theirs.proxy_cpu_us
            if most < 1:
                found.append(Line(f"{run}: times less CPU than {peer}", 1 / share, 1 / most, is_least=True, unit="x"))
            else:
                found.append(Line(f"{run}: CPU against {peer}", share, most, unit="x"))
    return found


def _of_the_database(of: _Results) -> list[Line]:
    found = []
    at_32, at_128 = of.get((UNARY, "32", OURS)), of.get((UNARY, "128", OURS))
    if at_32 and at_32.postgres_cpu_us and at_32.proxy_cpu_us:
        found.append(
            Line("unary, 32 in flight: PostgreSQL's CPU against the proxy's", at_32.postgres_cpu_us / at_32.proxy_cpu_us, 1.0, unit="x")
        )
    if at_128 and at_128.statements is not None:
        found.append(Line("unary, 128 in flight: statements a call", at_128.statements, 0.5))
    return found


def _latencies(of: _Results) -> list[Line]:
    found = []
    beside = "nginx" if any(through == "nginx" for _, _, through in of) else DIRECT

    def add(what: str, run: str, most: float, value: Callable[[Result], float]) -> None:
        ours = next((result for (name, _, through), result in of.items() if (name, through) == (run, OURS)), None)
        theirs = next((result for (name, _, through), result in of.items() if (name, through) == (run, beside)), None)
        if ours and theirs:
            found.append(Line(f"{what}, over {beside}", value(ours) - value(theirs), most, unit="ms"))

    add("unary, p50", OPEN, 2.0, lambda result: result.summary.latency.p50)
    add("unary, p99", OPEN, 15.0, lambda result: result.summary.latency.p99)
    add("first event, p50", PACED, 2.0, lambda result: result.summary.first_byte.p50)
    add("an event on its way, p50", PACED, 1.0, lambda result: result.summary.on_the_way.p50)
    add("an event on its way, p99", PACED, 1.0, lambda result: result.summary.on_the_way.p99)
    return found
