"""`billing-proxy audit`: what the proof of the books found, as a table or as JSON.

Exit code 0: the books are right. 1: there are differences. 2: they could not be audited, with the reason in one line on
standard error.
"""

import asyncio
import dataclasses
import json
from datetime import datetime
from decimal import Decimal
from typing import Annotated

import asyncpg
import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from sqlalchemy.exc import DBAPIError

from app.cli.database import database_beside_proxy, unreachable
from app.database import Database, said, sqlstate
from app.errors import StartupError
from app.ledger.audit import audit
from app.ledger.audit_report import Check, Report
from app.settings import Settings

cli = typer.Typer(add_completion=False)

CLEAN, DIFFERENT, NOT_AUDITED = 0, 1, 2
SHOWN = 20
"""Differences of one check that are listed; JSON has more."""
_NOT_MIGRATED = ("3F000", "42P01", "42703")
"""SQLSTATEs: no such schema, table, column."""


@cli.command("audit")
def audit_command(as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False) -> None:
    """Prove the books, also while the proxy runs. Exit code 0: right, 1: differences, 2: could not be audited."""
    raise typer.Exit(audit_books(as_json=as_json))


def audit_books(*, as_json: bool) -> int:
    """Returns the exit code."""
    try:
        settings = Settings.load()
        with database_beside_proxy(settings) as url:
            try:
                report = asyncio.run(_audit(url, lease=settings.lease))
            except OSError as away:
                return _tell(f"the books can't be audited: {unreachable(url, away)}")
    except StartupError as refused:
        return _tell(str(refused))
    except (DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        hint = "; run `billing-proxy migrate`" if sqlstate(error) in _NOT_MIGRATED else ""
        return _tell(f"the books can't be audited: {said(error)}{hint}")
    if as_json:
        everything = {"differing": report.differing} | dataclasses.asdict(report)
        print(json.dumps(everything, default=_as_text, indent=2))  # noqa: T201 (without rich: lines stay whole)
    else:
        _show(report, Console(highlight=False))
    return DIFFERENT if report.differing else CLEAN


async def _audit(url: str, *, lease: float) -> Report:
    database = Database(url, pool_size=1)
    console = Console(stderr=True)
    columns = (TextColumn("Reading the call log"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        try:
            return await audit(database, lease=lease, progress=lambda done, total: bar.update(task, completed=done, total=total))
        finally:
            await database.close()


def _tell(refusal: str) -> int:
    line = escape(" ".join(refusal.split()))
    Console(stderr=True).print(f"[bold red]billing-proxy:[/] {line}", soft_wrap=True, highlight=False)
    return NOT_AUDITED


def _show(report: Report, console: Console) -> None:
    if not report.users:
        console.print("There are no accounts yet.")
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("Check")
    table.add_column("Checked", justify="right")
    table.add_column("Result")
    for check in report.checks:
        table.add_row(escape(check.rule), f"{check.checked:,}", _result(check))
    console.print(table)
    for check in report.checks:
        _show_differences(check, console)
    held = f"{_counted(report.holds, 'call')} in flight"
    if report.oldest_hold is not None:
        held += f", the oldest for {report.oldest_hold:.0f} s"
    archived = f", {report.archived:,} archived" if report.archived else ""
    books = f"{_counted(report.users, 'account')}, {_counted(report.rows, 'row')}{archived}, {held}"
    console.print(f"{books}, at {report.at:%Y-%m-%d %H:%M:%S} UTC.", soft_wrap=True)
    if report.differing:
        console.print(f"[bold red]The books are not right: {_counted(report.differing, 'difference')}.[/]")
    else:
        console.print("[bold green]The books are right.[/]")


def _show_differences(check: Check, console: Console) -> None:
    if not check.differing:
        return
    console.print(f"[bold]{escape(check.rule)}[/]")
    for difference in check.differences[:SHOWN]:
        expected = f"{check.expected_is}: {_as_text(difference.expected)}"
        found = f"{check.found_is}: {_as_text(difference.found)}"
        console.print(f"  {_plain(f'{difference.subject}; {expected}; {found}')}", soft_wrap=True, markup=False)
    if check.differing > SHOWN:
        console.print(f"  and {check.differing - SHOWN:,} more")
    console.print()


def _result(check: Check) -> str:
    return f"[bold red]{_counted(check.differing, 'difference')}[/]" if check.differing else "[green]right[/]"


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _plain(text: str) -> str:
    """Without control characters: names of users and models are what others have sent."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _as_text(value: object) -> str:
    return f"{value:f}" if isinstance(value, Decimal) else value.isoformat() if isinstance(value, datetime) else str(value)
