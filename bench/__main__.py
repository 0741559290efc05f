"""`make bench`: starts the stand-in, the proxy and nginx, measures each run, checks the books, shows a table.

    python -m bench [--seconds 6] [--peers] [--json FILE] [--plot FILE] [--profile [FILE]]

`--peers` (`make bench-peers`): Portkey's gateway and LiteLLM's proxy, too, where they are installed.
Exit status 0: measured, every row and bill right. 1: a difference, or no benchmark could be made. 130: interrupted.
BENCH_DATABASE_URL names a database to use instead of the embedded PostgreSQL; it gets rows and users of the bench.
"""

import argparse
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NoReturn

from rich.console import Console
from rich.markup import escape
from rich.status import Status

from bench.books import RATES
from bench.conditions import conditions_of
from bench.measure import OURS, Measurement, Result, Run
from bench.peers import running_peer
from bench.plot import draw
from bench.processes import Failure
from bench.proxy import ROOT, running_proxy, running_upstream, work_directory
from bench.table import Outcome, save, show
from bench.targets import OPEN, PACED, STREAM, UNARY, lines_of

WARM_UP = Run("warm-up", 32)
AT_32 = (Run(UNARY, 32, profiled=True), Run(STREAM, 32, stream=True))
OTHERS = (Run(UNARY, 8), Run(UNARY, 128))
IN_TIME = (Run(OPEN, 64, rate=200), Run(PACED, 128, rate=20, stream=True, paced=True))
"""At a rate that doesn't wait for answers, so that queueing shows. Paced: 20 streams a second are 2,000 events a second."""
PEERS = ("Portkey", "LiteLLM")
INTERRUPTED = 130
_PAGE_WIDTH = 150


def _measure_all(seconds: float, profile: Path | None, console: Console, *, with_peers: bool) -> Outcome:
    results: list[Result] = []
    with (
        console.status("starting proxy and stand-in upstream") as status,
        work_directory() as directory,
        running_upstream(directory) as upstream,
        running_proxy(directory) as proxy,
        running_peer("nginx", directory, upstream) as nginx,
    ):
        proxy.operator.set_up(upstream.url, RATES)
        conditions = conditions_of(proxy, seconds)
        measurement = Measurement(proxy, upstream, seconds=seconds, profile=profile)

        def measure(how: Callable[[Run], Result], run: Run) -> None:
            results.append(_measured(how, run, status, console))

        measure(measurement.of, WARM_UP)
        for run in (*AT_32, *OTHERS):
            measure(measurement.of, run)
            if nginx and run in AT_32:
                measure(partial(measurement.of_peer, peer=nginx), run)
        for run in IN_TIME:
            measure(measurement.direct, run)
            if nginx:
                measure(partial(measurement.of_peer, peer=nginx), run)
            measure(measurement.of, run)
        for name in PEERS if with_peers else ():
            status.update(f"starting {name}")
            with running_peer(name, directory, upstream) as peer:
                if peer is None:
                    console.print(f"{name} is not installed: left out")
                else:
                    for run in AT_32:
                        measure(partial(measurement.of_peer, peer=peer), run)
        status.update("stopping")
    books_ok = not any(result.differences for result in results if result.through == OURS)
    # The warm-up's numbers mean nothing, but its books must be right.
    measured = [result for result in results if result.run != WARM_UP.name or result.differences]
    return Outcome(conditions, measured, lines_of(results), books_ok)


def _measured(how: Callable[[Run], Result], run: Run, status: Status, console: Console) -> Result:
    status.update(f"{run.name}, {run.in_flight} in flight")
    result = how(run)
    cpu = "" if result.proxy_cpu_us is None else f", CPU {result.proxy_cpu_us:,.0f} us/call"
    wrong = f", [red]{len(result.differences):,} differences[/red]" if result.differences else ""
    rate = f"{result.summary.calls_per_second:,.0f} calls/s"
    console.print(f"{result.run}, {result.in_flight}, {result.through}: {rate}{cpu}{wrong}", highlight=False)
    return result


def _on_terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _output() -> Console:
    """Wide enough for the table where no terminal says how wide it is."""
    console = Console()
    return console if console.is_terminal else Console(width=_PAGE_WIDTH)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description="What a call costs the proxy.")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each run")
    parser.add_argument("--peers", action="store_true", help="Portkey's gateway and LiteLLM's proxy, too, where they are installed")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the results as an SVG")
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
        outcome = _measure_all(options.seconds, options.profile, console, with_peers=options.peers)
    except Failure as failure:
        console.print(f"[red]{escape(str(failure))}[/red]", highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("interrupted")
        return INTERRUPTED
    show(outcome, _output())
    if options.json is not None:
        save(outcome, options.json)
    if options.plot is not None:
        draw(outcome, options.plot)
    return 0 if outcome.books_ok else 1


if __name__ == "__main__":
    sys.exit(main())
