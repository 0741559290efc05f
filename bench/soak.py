"""`make bench-soak`: does the proxy's memory stay, and what does an open stream take of it?

    python -m bench.soak [--calls 200000] [--streams 5000]

Calls come in legs, unary and streamed in turn; after each the books are compared, and what the proxy holds is looked at.
What is written at first use (caches, plans) is not counted as growth: the first legs are left out. Memory is that of the
proxy's processes alone (USS where the system tells it), PostgreSQL's not among it.
Exit status 0: within the bounds, every row and bill right. 1: beyond, or a difference. 130: interrupted.
"""

import argparse
import resource
import sys
import time

from rich.console import Console
from rich.markup import escape

from bench.books import RATES
from bench.measure import Measurement, Run
from bench.processes import Failure, memory_of
from bench.proxy import Proxy, Upstream, running_proxy, running_upstream, work_directory

LEGS = 10
WARM_LEGS = 2
MOST_GROWTH = 0.05
MOST_OF_A_STREAM = 25.0
"""KiB."""
AT_REST = 150.0
"""MiB, of a process that has served nothing."""
_MIB, _KIB = 1024 * 1024, 1024
_OPENED_A_SECOND = 250
_SECONDS = 3600.0
INTERRUPTED = 130


def _stays_flat(calls: int, console: Console) -> bool:
    with work_directory() as directory, running_upstream(directory) as upstream, running_proxy(directory) as proxy:
        proxy.operator.set_up(upstream.url, RATES)
        at_rest = memory_of(proxy.child) / _MIB
        console.print(f"at rest: {at_rest:.0f} MiB (target <= {AT_REST:.0f})", highlight=False)
        measurement = Measurement(proxy, upstream, seconds=_SECONDS)
        held, books_ok = [], True
        for leg in range(LEGS):
            result = measurement.of(Run(f"leg {leg + 1}", 32, calls=calls // LEGS, stream=leg % 2 == 1))
            held.append(memory_of(proxy.child))
            books_ok = books_ok and not result.differences
            told = "; ".join(result.differences[:3]) or "books ok"
            console.print(f"leg {leg + 1}: {result.summary.calls:,} calls, {held[-1] / _MIB:.1f} MiB, {escape(told)}", highlight=False)
    # Legs of one kind are compared: the last two with the first two after those that warm up.
    growth = max(held[-2] / held[WARM_LEGS], held[-1] / held[WARM_LEGS + 1]) - 1
    console.print(f"memory: {growth:+.1%} over the calls (target within {MOST_GROWTH:.0%})", highlight=False)
    return books_ok and growth <= MOST_GROWTH and at_rest <= AT_REST


def _open_streams(streams: int, console: Console) -> bool:
    """They come one after another and stay open until all are there: five events, and as long between them as all need to come."""
    pace = max(streams / _OPENED_A_SECOND, 5.0)
    with work_directory() as directory, running_upstream(directory, events=5, pace=pace) as upstream, running_proxy(directory) as proxy:
        proxy.operator.set_up(upstream.url, RATES)
        measurement = Measurement(proxy, upstream, seconds=6 * pace)
        measurement.of(Run("warm-up", 32, calls=2000, stream=True))
        before = memory_of(proxy.child)
        most = _Most(proxy, upstream, before)
        run = Run("open streams", streams, rate=_OPENED_A_SECOND, calls=streams, stream=True, paced=True)
        result = measurement.of(run, meanwhile=most.look)
    of_each = (most.held - before) / max(most.open, 1) / _KIB
    told = "; ".join(result.differences[:3]) or "books ok"
    console.print(f"{most.open:,} open streams: {of_each:.1f} KiB each (target <= {MOST_OF_A_STREAM:.0f}), {escape(told)}", highlight=False)
    return not result.differences and most.open >= streams and of_each <= MOST_OF_A_STREAM


class _Most:
    """What the proxy held when most streams were open."""

    def __init__(self, proxy: Proxy, upstream: Upstream, held: int) -> None:
        self.open, self.held = 0, held
        self._proxy, self._upstream = proxy, upstream

    def look(self) -> None:
        time.sleep(0.5)
        if (now := self._upstream.totals().open) >= self.open and now:
            self.open, self.held = now, memory_of(self._proxy.child)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description="Whether the proxy's memory stays.")
    parser.add_argument("--calls", type=int, default=200_000)
    parser.add_argument("--streams", type=int, default=5_000)
    options = parser.parse_args()
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))  # the proxy has two for each stream
    console = Console(width=150)
    try:
        are_well = [_stays_flat(options.calls, console), _open_streams(options.streams, console)]
    except Failure as failure:
        console.print(f"[red]{escape(str(failure))}[/red]", highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("interrupted")
        return INTERRUPTED
    return 0 if all(are_well) else 1


if __name__ == "__main__":
    sys.exit(main())
