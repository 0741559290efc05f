"""How soon the dashboard's overview shows something on a long log, and what a browser fetches for it.

    python -m bench.paint [--rows 10000000] [--keep DIR] [--repeat 5]

Fills a database of its own as `make bench-logs` does (`--keep`: the same directories), starts the proxy on it, and drives Chromium:
cold, as a browser that was never here, and warm. A first paint is the browser's own first contentful paint; the figures stand when
those of the chosen period are there, the charts when all three are drawn; all from the moment at which the page is asked for.
Bytes are those of bodies and headers as they were sent, compressed. Medians. Exit status 0: measured; 1: it could not be.
"""

import argparse
import asyncio
import contextlib
import secrets
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import asyncpg
from playwright.sync_api import Browser, BrowserContext, sync_playwright
from rich import box
from rich.console import Console
from rich.table import Table
from sqlalchemy import make_url

from app.runtime.migrations import upgrade
from app.runtime.postgres import EmbeddedPostgres
from bench.admin import Operator
from bench.logs.__main__ import fill_where_empty, in_directory
from bench.processes import Child, Failure, environment, free_port
from bench.proxy import PROGRAM, wait_until, work_directory

RANGES = ("24h", "30d", "365d")
PATIENCE = 60_000.0
"""Milliseconds."""
FIGURES = "() => document.querySelector('#figure-calls')?.dataset.value ? performance.now() : 0"
CHARTS = "() => document.querySelectorAll('.chart canvas').length >= 3 ? performance.now() : 0"
PAINTED = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0"
FETCHED = """() => ['navigation', 'resource'].flatMap((kind) => performance.getEntriesByType(kind))
    .map(({ name, transferSize }) => [new URL(name).pathname, transferSize])"""


class View(NamedTuple):
    """Milliseconds since the page was asked for; bytes on the wire: of files, and of pages and answers."""

    painted: float
    figures: float
    charts: float
    files: int
    answers: int


@contextlib.contextmanager
def _serving(directory: Path, database_url: str) -> Iterator[tuple[str, str]]:
    """Its address, and the token of its operator."""
    token, port = secrets.token_urlsafe(24), free_port()
    settings = environment(
        HOST="127.0.0.1",
        PORT=str(port),
        DATA_DIR=str(directory / "data"),
        DATABASE_URL=database_url,
        ADMIN_TOKEN=token,
        SECRET_KEY=secrets.token_urlsafe(32),
    )
    url = f"http://127.0.0.1:{port}"
    operator = Operator(url, token, "paint")
    child = Child([str(PROGRAM), "serve"], log=directory / "proxy.log", cwd=directory, env=settings, patience=60.0)
    try:
        wait_until(child, operator.ready, "the proxy")
        yield url, token
    finally:
        operator.close()
        child.stop()


def _signed_in(browser: Browser, url: str, token: str) -> BrowserContext:
    """A browser that has a session, and no file of the dashboard yet."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    headers = {"X-Dashboard": "1", "Origin": url}
    answer = context.request.post(f"{url}/dashboard/session", data={"secret": token}, headers=headers)
    if not answer.ok:
        raise Failure(f"the proxy doesn't let the bench sign in: {answer.status} {answer.text()[:300]}")
    return context


def _view(context: BrowserContext, address: str) -> View:
    page = context.new_page()
    try:
        page.goto(address, timeout=PATIENCE)
        figures = float(page.wait_for_function(FIGURES, timeout=PATIENCE).json_value())
        charts = float(page.wait_for_function(CHARTS, timeout=PATIENCE).json_value())
        page.wait_for_load_state("networkidle", timeout=PATIENCE)
        fetched = [(str(path), int(size)) for path, size in page.evaluate(FETCHED)]
        files = sum(size for path, size in fetched if path.startswith("/dashboard/static/"))
        return View(float(page.evaluate(PAINTED)), figures, charts, files, sum(size for _, size in fetched) - files)
    finally:
        page.close()


def _measure(url: str, token: str, chromium: str, repeat: int) -> list[tuple[str, View]]:
    measured: list[tuple[str, View]] = []
    with sync_playwright() as library:
        browser = library.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for chosen in RANGES:
            cold, warm = [], []
            for _ in range(repeat):
                context = _signed_in(browser, url, token)
                cold.append(_view(context, f"{url}/dashboard/overview?range={chosen}"))
                warm.append(_view(context, f"{url}/dashboard/overview?range={chosen}"))
                context.close()
            measured += [(f"{chosen}, cold", _middle(cold)), (f"{chosen}, warm", _middle(warm))]
        browser.close()
    return measured


def _middle(views: Sequence[View]) -> View:
    painted, figures, charts, files, answers = (median(column) for column in zip(*views, strict=True))
    return View(painted, figures, charts, int(files), int(answers))


async def _rows(url: str) -> int:
    connection = await asyncpg.connect(make_url(url).set(drivername="postgresql").render_as_string(hide_password=False))
    try:
        return int(await connection.fetchval("SELECT count(*) FROM aigcspace.api_call_log"))
    finally:
        await connection.close()


def _show(measured: list[tuple[str, View]], rows: int) -> None:
    table = Table(title=f"The overview, {rows:,} calls", box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for heading in ("period", "first paint ms", "figures ms", "charts ms", "files KB", "answers KB"):
        table.add_column(heading, justify="left" if heading == "period" else "right")
    for name, view in measured:
        times = (f"{milliseconds:,.0f}" for milliseconds in view[:3])
        table.add_row(name, *times, f"{view.files / 1000:,.1f}", f"{view.answers / 1000:,.1f}")
    Console(width=100).print(table)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.paint", description="How soon the overview shows something.")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="fill there, or use what is there, and leave it")
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    console = Console(stderr=True)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    try:
        if chromium is None:
            raise Failure("there is no Chromium on this machine: install Debian's `chromium`")
        with in_directory(options.keep) as directory, work_directory() as work:
            postgres = EmbeddedPostgres.start(directory / "data")
            try:
                upgrade(postgres.url)
                asyncio.run(fill_where_empty(postgres.url, options.rows, console))
                with _serving(work, postgres.url) as (url, token):
                    measured = _measure(url, token, chromium, options.repeat)
                rows = asyncio.run(_rows(postgres.url))
            finally:
                postgres.stop()
    except Failure as failure:
        console.print(str(failure))
        return 1
    _show(measured, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
