"""How the results are shown and kept: a table for people, JSON for programs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.measure import Result

_SHOWN = 10


class Outcome(msgspec.Struct):
    """`latency_added_ms`: the open loop through the proxy less the same arrivals met by the stand-in directly."""

    conditions: Mapping[str, str]
    runs: Sequence[Result]
    latency_added_ms: Mapping[str, float]
    books_ok: bool


def show(outcome: Outcome, console: Console) -> None:
    table = Table(title="What a call costs", box=box.SIMPLE_HEAD, title_justify="left", collapse_padding=True, pad_edge=False)
    table.add_column("run", no_wrap=True)
    for heading in ("in flight", "calls", "calls/s", "proxy CPU\nus/call", "PostgreSQL\nCPU us/call"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("p50/p99 ms", "first byte\np50 ms", "RSS\nMiB", "books"):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in outcome.runs:
        table.add_row(*_cells(result))
    console.print(table)
    added = ", ".join(f"{name} {value:+.2f} ms" for name, value in outcome.latency_added_ms.items())
    console.print(f"Latency added by the proxy: {added or 'not measured'}")
    for name, value in outcome.conditions.items():
        console.print(f"  {name}: {escape(value)}", highlight=False)
    for result in outcome.runs:
        _show_differences(result, console)


def _cells(result: Result) -> list[str]:
    summary = result.summary
    return [
        result.run,
        result.in_flight,
        f"{summary.calls:,}",
        f"{summary.calls_per_second:,.0f}",
        _number(result.proxy_cpu_us),
        _number(result.postgres_cpu_us),
        f"{summary.latency.p50:.2f} / {summary.latency.p99:.2f}",
        f"{summary.first_byte.p50:.2f}",
        _number(result.rss_mib),
        "[red]WRONG[/red]" if result.differences else "ok" if result.proxy_cpu_us is not None else "-",
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _show_differences(result: Result, console: Console) -> None:
    for difference in result.differences[:_SHOWN]:
        console.print(f"[red]{result.run}, {result.in_flight}:[/red] {escape(difference)}", highlight=False)
    if len(result.differences) > _SHOWN:
        console.print(f"[red]… and {len(result.differences) - _SHOWN:,} more[/red]")


def save(outcome: Outcome, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_bytes(msgspec.json.format(msgspec.json.encode(outcome)) + b"\n")
