"""`make bench-logs`: fills a database of its own, asks it, and shows a table with the plans that were used.

    python -m bench.logs [--rows 10000000] [--keep DIR]

`--keep`: fill, or use what is filled, there, and leave it; else all is removed. Each row of the table is measured on an otherwise
idle connection, in this process: what HTTP adds is in `make bench`. Exit status 0: measured; 130: interrupted.
"""

import argparse
import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

import asyncpg
import uvloop
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from sqlalchemy import make_url

from app.database import Database
from app.main import COLLECT_AT
from app.runtime.migrations import upgrade
from app.runtime.postgres import EmbeddedPostgres
from bench.logs.fill import fill
from bench.logs.questions import Measured, exported, filters, pages, settled, sums
from bench.logs.rows import Rows, start_of_bench
from bench.proxy import work_directory

INTERRUPTED = 130
EXPORTED = 500_000
FIRST_BATCHES, BATCHES = 1600, 400
"""Those that bring what a log that has been written to all the time has in PostgreSQL's memory, and those that are measured."""
_LONG = 120.0
"""Seconds that a statement may take here."""
_WIDE = 200


@contextlib.contextmanager
def in_directory(kept: Path | None) -> Iterator[Path]:
    if kept is None:
        with work_directory() as directory:
            yield directory
        return
    kept.mkdir(parents=True, exist_ok=True)
    kept.chmod(0o755)
    yield kept


async def fill_where_empty(url: str, rows: int, console: Console) -> None:
    connection = await asyncpg.connect(make_url(url).set(drivername="postgresql").render_as_string(hide_password=False))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        if await connection.fetchval("SELECT count(*) FROM aigcspace.account"):
            return
        with Progress(*columns, console=console) as progress:
            bars: dict[str, object] = {}

            def tell(what: str, done: int, of: int) -> None:
                if what not in bars:
                    bars[what] = progress.add_task(what, total=of)
                progress.update(bars[what], completed=done)  # type: ignore[arg-type]

            await fill(connection, Rows(rows, until=start_of_bench()), tell)
    finally:
        await connection.close()


async def _measure(url: str, console: Console) -> list[Measured]:
    database = Database(url, timeout=_LONG)
    now = start_of_bench()
    measured: list[Measured] = []
    gc.freeze()  # as the proxy does, whose reports these are
    gc.set_threshold(*COLLECT_AT)
    try:
        with console.status("asking") as status:
            for name, asked in filters(now).items():
                status.update(f"/logs: {name}")
                measured += await pages(database, name, asked)
            status.update("/logs/stats")
            measured += await sums(database, now, repeats=5)
            status.update("/logs/export")
            measured += [await exported(database, "csv", EXPORTED), await exported(database, "ndjson", EXPORTED)]
            status.update("settling")
            measured += await settled(database, first=FIRST_BATCHES, batches=BATCHES)
    finally:
        await database.close()
    return measured


def _show(measured: list[Measured], console: Console) -> None:
    table = Table(title="The call log, asked", box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for heading in ("asked", "found", "p50 ms", "p95 ms", "plan"):
        table.add_column(heading, justify="right" if heading in ("found", "p50 ms", "p95 ms") else "left", overflow="fold")
    for row in measured:
        table.add_row(row.name, row.found, f"{row.p50:,.1f}", f"{row.p95:,.1f}", row.plan)
    console.print(table)


def _on_terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.logs", description="What reports over a long log take.")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="fill there, or use what is there, and leave it")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _on_terminate)
    console = Console(stderr=True)
    try:
        with in_directory(options.keep) as directory:
            postgres = EmbeddedPostgres.start(directory / "data")
            try:
                upgrade(postgres.url)
                asyncio.run(fill_where_empty(postgres.url, options.rows, console))
                measured = uvloop.run(_measure(postgres.url, console))
            finally:
                postgres.stop()
    except KeyboardInterrupt:
        console.print("interrupted")
        return INTERRUPTED
    _show(measured, Console(width=_WIDE))
    return 0


if __name__ == "__main__":
    sys.exit(main())
