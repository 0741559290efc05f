"""How the results are shown and kept: a table for people, JSON for programs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.measure import OURS, Result
from bench.targets import Line

_SHOWN = 10


class Outcome(msgspec.Struct):
    """`targets`: what the runs come to, beside what they are meant to."""

    conditions: Mapping[str, str]
    runs: Sequence[Result]
    targets: Sequence[Line]
    books_ok: bool


def show(outcome: Outcome, console: Console) -> None:
    table = Table(title="What a call costs", box=box.SIMPLE_HEAD, title_justify="left", collapse_padding=True, pad_edge=False)
    table.add_column("run", no_wrap=True)
    table.add_column("through", no_wrap=True)
    for heading in ("in flight", "calls", "calls/s", "CPU\nus/call", "PostgreSQL\nus/call", "statements\na call"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("p50/p99 ms", "first byte\np50 ms", "RSS\nMiB", "books"):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in outcome.runs:
        table.add_row(*_cells(result))
    console.print(table)
    for line in outcome.targets:
        mark = "[green]holds[/green]" if line.holds else "[red]missed[/red]"
        relation = ">=" if line.is_least else "<="
        console.print(
            f"  {mark}  {line.what}: {line.measured:.2f}{line.unit} (target {relation} {line.bound:.2f}{line.unit})", highlight=False
        )
    for name, value in outcome.conditions.items():
        console.print(f"  {name}: {escape(value)}", highlight=False)
    for result in outcome.runs:
        _show_differences(result, console)


def _cells(result: Result) -> list[str]:
    summary = result.summary
    return [
        result.run,
        result.through,
        result.in_flight,
        f"{summary.calls:,}",
        f"{summary.calls_per_second:,.0f}",
        _number(result.proxy_cpu_us),
        _number(result.postgres_cpu_us),
        "-" if result.statements is None else f"{result.statements:.2f}",
        f"{summary.latency.p50:.2f} / {summary.latency.p99:.2f}",
        f"{summary.first_byte.p50:.2f}",
        _number(result.rss_mib),
        _books(result),
    ]


def _books(result: Result) -> str:
    if result.through != OURS:
        return "fails" if result.differences else "-"
    return "[red]WRONG[/red]" if result.differences else "ok"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _show_differences(result: Result, console: Console) -> None:
    for difference in result.differences[:_SHOWN]:
        console.print(f"[red]{result.run}, {result.in_flight}, {result.through}:[/red] {escape(difference)}", highlight=False)
    if len(result.differences) > _SHOWN:
        console.print(f"[red]… and {len(result.differences) - _SHOWN:,} more[/red]")


def save(outcome: Outcome, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_bytes(msgspec.json.format(msgspec.json.encode(outcome)) + b"\n")
