"""One run: fresh users, a quiet start, load, what it cost, and the books. `Failure` if the run can't be made at all."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bench.books import differences
from bench.load import GRACE
from bench.peers import Peer
from bench.processes import Cost
from bench.proxy import Proxy, Upstream, profiled, run_load
from bench.report import Call, Summary
from bench.wire import Totals

CUSTOMERS = 4
"""Of a run, so that calls meet in one account, and batches hold several accounts."""

OURS = "proxy"
DIRECT = "no proxy"
_START_AND_REPORT = 30.0
_MIB = 1024 * 1024


@dataclass(frozen=True)
class Run:
    """`rate` is calls a second, arriving whoever is ready, over `in_flight` connections; 0 is the closed loop. `calls`: so many
    at most; 0: as many as there is time for."""

    name: str
    in_flight: int
    rate: int = 0
    calls: int = 0
    stream: bool = False
    paced: bool = False
    profiled: bool = False


class Result(msgspec.Struct):
    """`through`: the proxy, a peer, or neither. CPU in microseconds a call; None where there is no proxy in between, or its
    PostgreSQL is not ours to measure. `statements`: transactions that wrote, a call."""

    run: str
    in_flight: str
    through: str
    summary: Summary
    proxy_cpu_us: float | None = None
    postgres_cpu_us: float | None = None
    statements: float | None = None
    rss_mib: float | None = None
    differences: list[str] = []


class Measurement:
    """Runs against one proxy and one stand-in; users are numbered on, so that no run sees another's rows."""

    def __init__(self, proxy: Proxy, upstream: Upstream, *, seconds: float, profile: Path | None = None) -> None:
        self._proxy = proxy
        self._upstream = upstream
        self._seconds = seconds
        self._profile = profile
        self._enrolled = 0

    def of(self, run: Run, *, meanwhile: Callable[[], None] | None = None) -> Result:
        """Through the proxy, the books compared. `meanwhile` is called again and again while the load runs."""
        self._proxy.wait_until_quiet()
        operator = self._proxy.operator
        customers = [operator.enrol(self._enrolled + number) for number in range(CUSTOMERS)]
        self._enrolled += CUSTOMERS
        answered_before, written_before, before = self._upstream.totals(), self._proxy.transactions(), self._proxy.cost()
        with self._profiling(run):
            summary, calls = self._load(run, self._proxy.url, [f"--key={customer.key}" for customer in customers], meanwhile)
        after, written, answered = self._proxy.cost(), self._proxy.transactions(), self._upstream.totals()
        rows = [row for customer in customers for row in operator.rows(customer.user_id, 2 * len(calls) + 1000)]
        accounts = [operator.account(customer.user_id) for customer in customers]
        found = differences(calls, rows, accounts, _since(answered_before, answered))
        if "unfinished" in summary.failures:
            found.append(f"calls unfinished: {summary.failures['unfinished']}")
        result = _result(run, OURS, summary, before=before, after=after, found=found)
        result.statements = round((written - written_before) / max(1, summary.calls), 3)
        return result

    def direct(self, run: Run) -> Result:
        """The same calls, made to the stand-in."""
        self._proxy.wait_until_quiet()
        summary, calls = self._load(run, self._upstream.url, [])
        return Result(run.name, _in_flight(run), DIRECT, summary, differences=_failed(summary, calls))

    def of_peer(self, run: Run, peer: Peer) -> Result:
        """There are no books to compare; nginx alone passes on what the upstream wrote."""
        self._proxy.wait_until_quiet()
        before = peer.cost()
        options = [f"--key={peer.key}", *(f"--header={header}" for header in peer.headers), "--any-answer"]
        summary, calls = self._load(run, peer.url, options)
        return _result(run, peer.name, summary, before=before, after=peer.cost(), found=_failed(summary, calls))

    def _load(self, run: Run, url: str, options: list[str], meanwhile: Callable[[], None] | None = None) -> tuple[Summary, list[Call]]:
        arguments = ["--connections", str(run.in_flight), "--seconds", str(self._seconds), "--rate", str(run.rate), *options]
        arguments += ["--calls", str(run.calls)]
        arguments += ["--stream"] if run.stream else []
        arguments += ["--paced"] if run.paced else []
        limit = self._seconds + GRACE + _START_AND_REPORT
        summary, calls = run_load(url, self._proxy.directory, arguments, limit, meanwhile)
        decoder = msgspec.json.Decoder(Call)
        return msgspec.json.decode(summary, type=Summary), decoder.decode_lines(calls)

    def _profiling(self, run: Run) -> contextlib.AbstractContextManager[None]:
        if self._profile is None or not run.profiled:
            return contextlib.nullcontext()
        return profiled(self._proxy, self._seconds, self._profile)


def _since(before: Totals, after: Totals) -> Totals:
    return Totals(
        after.calls - before.calls,
        after.input_tokens - before.input_tokens,
        after.output_tokens - before.output_tokens,
    )


def _failed(summary: Summary, calls: list[Call]) -> list[str]:
    return [f"calls failed: {summary.failures}"] if len(calls) != summary.calls or summary.failures else []


def _result(run: Run, through: str, summary: Summary, *, before: Cost, after: Cost, found: list[str]) -> Result:
    calls = summary.calls
    if not calls:
        return Result(run.name, _in_flight(run), through, summary, differences=found or ["no call came to its end"])
    postgres = round((after.postgres - before.postgres) / calls * 1e6, 1)
    return Result(
        run.name,
        _in_flight(run),
        through,
        summary,
        proxy_cpu_us=round((after.proxy - before.proxy) / calls * 1e6, 1),
        postgres_cpu_us=postgres if after.postgres else None,
        rss_mib=round(after.rss / _MIB, 1),
        differences=found,
    )


def _in_flight(run: Run) -> str:
    return f"{run.rate}/s" if run.rate else str(run.in_flight)
