"""`billing-proxy logs archive`: old rows go to files, beside a running proxy too.

Exit code 0: done. 1: it can't be done, with the reason in one line on standard error. 130: stopped with Ctrl-C; said again, it
goes on where it was.
"""

import asyncio
import os
import signal
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from sqlalchemy.exc import DBAPIError

from app.cli.database import database_beside_proxy
from app.database import said, sqlstate
from app.errors import StartupError
from app.ledger.archive import Archive
from app.settings import Settings

DONE, STOPPED = 0, 128 + signal.SIGINT
_NOT_MIGRATED = ("3F000", "42P01", "42703")
"""SQLSTATEs: no such schema, table, column."""


def archive_logs(settings: Settings, *, before: datetime, directory: Path) -> int:
    """Returns the exit code. Raises `StartupError`."""
    console = Console()
    if not os.path.isdir(directory):  # noqa: PTH112 (Path's own raises for a name that is too long)
        raise StartupError(f"{directory} is no directory: make it, where there is room for the files")
    try:
        with database_beside_proxy(settings) as url:
            rows = _run(url, before=before, directory=directory)
    except KeyboardInterrupt:
        console.print("Stopped. Say the same again, and it goes on.")
        return STOPPED
    except (DBAPIError, OSError) as error:
        hint = "; run `billing-proxy migrate`" if sqlstate(error) in _NOT_MIGRATED else "; say the same again, and it goes on"
        raise StartupError(f"archiving failed: {said(error)}{hint}") from error
    console.print(f"Archived {rows:,} {'row' if rows == 1 else 'rows'} to {directory}", soft_wrap=True, markup=False, highlight=False)
    return DONE


def _run(url: str, *, before: datetime, directory: Path) -> int:
    console = Console(stderr=True)
    columns = (TextColumn("Archiving"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        return asyncio.run(Archive(url, before=before, directory=directory, progress=show).run())
