"""`make bench`: starts the stand-in and the proxy, measures each run, checks the books, shows a table.

    python -m bench [--seconds 6] [--json FILE] [--profile [FILE]]

Exit status 0: measured, every row and bill right. 1: a difference, or no benchmark could be made. 130: interrupted.
BENCH_DATABASE_URL names a database to use instead of the embedded PostgreSQL; it gets rows and users of the bench.
"""

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

from rich.console import Console
from rich.markup import escape

from bench.books import RATES
from bench.conditions import conditions_of
from bench.measure import Measurement, Result, Run
from bench.processes import Failure
from bench.proxy import ROOT, running_proxy, running_upstream, work_directory
from bench.table import Outcome, save, show

WARM_UP = Run("warm-up", 32)
OPEN = Run("unary, open loop", 64, rate=200)
DIRECT = Run("open loop, no proxy", 64, rate=200, direct=True)
RUNS = (
    Run("unary", 8),
    Run("unary", 32, profiled=True),
    Run("unary", 128),
    Run("100-event stream", 32, stream=True),
    OPEN,
    DIRECT,
)
EVENTS = 100
INTERRUPTED = 130
_PAGE_WIDTH = 120


def _measure_all(seconds: float, profile: Path | None, console: Console) -> Outcome:
    results = []
    with (
        console.status("starting proxy and stand-in upstream") as status,
        work_directory() as directory,
        running_upstream(directory, events=EVENTS, pace=0) as upstream,
        running_proxy(directory) as proxy,
    ):
        proxy.operator.set_up(upstream.url, RATES)
        conditions = conditions_of(proxy, seconds)
        measurement = Measurement(proxy, upstream, seconds=seconds, profile=profile)
        for run in (WARM_UP, *RUNS):
            status.update(f"{run.name}, {run.in_flight} in flight")
            result = measurement.of(run)
            _report(result, console)
            results.append(result)
        status.update("stopping")
    books_ok = not any(result.differences for result in results)
    # The warm-up's numbers mean nothing, but its books must be right.
    measured = [result for result in results if result.run != WARM_UP.name or result.differences]
    return Outcome(conditions, measured, _latency_added(results), books_ok)


def _report(result: Result, console: Console) -> None:
    cpu = "" if result.proxy_cpu_us is None else f", proxy CPU {result.proxy_cpu_us:.0f} us/call"
    wrong = f", [red]{len(result.differences):,} differences[/red]" if result.differences else ""
    rate = f"{result.summary.calls_per_second:,.0f} calls/s"
    console.print(f"{result.run}, {result.in_flight}: {rate}{cpu}{wrong}", highlight=False)


def _latency_added(results: list[Result]) -> dict[str, float]:
    of = {result.run: result.summary.latency for result in results}
    through, direct = of[OPEN.name], of[DIRECT.name]
    return {"p50": round(through.p50 - direct.p50, 3), "p99": round(through.p99 - direct.p99, 3)}


def _on_terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _output() -> Console:
    """Wide enough for the table where no terminal says how wide it is."""
    console = Console()
    return console if console.is_terminal else Console(width=_PAGE_WIDTH)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description="What a call costs the proxy.")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    parser.add_argument(
        "--profile",
        type=Path,
        nargs="?",
        const=ROOT / "bench" / "results" / "profile.svg",
        metavar="FILE",
        help="py-spy's record of the unary run at 32: .svg, .json (speedscope), else collapsed stacks",
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _on_terminate)
    console = Console(stderr=True)
    try:
        outcome = _measure_all(options.seconds, options.profile, console)
    except Failure as failure:
        console.print(f"[red]{escape(str(failure))}[/red]", highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("interrupted")
        return INTERRUPTED
    show(outcome, _output())
    if options.json is not None:
        save(outcome, options.json)
    return 0 if outcome.books_ok else 1


if __name__ == "__main__":
    sys.exit(main())
