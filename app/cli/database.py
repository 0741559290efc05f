"""Which database a command works on: that of DATABASE_URL, else the embedded one under DATA_DIR.

One process at a time can run the embedded server. `serve` is that process; any other command works on the server that
runs already, and starts one for itself only where none does.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError

from app import logs
from app.database import OWN_POOLS, Database, said, sqlstate
from app.errors import StartupError, Unavailable
from app.paging import Page
from app.runtime.postgres import EmbeddedPostgres
from app.settings import Settings

T = TypeVar("T")
LARGEST_PAGE = 500
_NOT_MIGRATED = ("3F000", "42P01", "42703", "42883")
"""SQLSTATEs: no such schema, table, column, function."""


@contextlib.contextmanager
def own_database(settings: Settings) -> Iterator[str]:
    """DATABASE_URL, or a server of this process's own for as long as the block lasts. Raises `StartupError`."""
    if settings.database_url is not None:
        yield settings.database_url
        return
    needed = settings.workers * (settings.database_pool + OWN_POOLS)
    if needed > EmbeddedPostgres.CONNECTIONS:
        raise StartupError(
            f"WORKERS x (DATABASE_POOL + {OWN_POOLS} of its own) is {needed} connections, and the embedded PostgreSQL has "
            f"{EmbeddedPostgres.CONNECTIONS}: lower WORKERS ({settings.workers}) or DATABASE_POOL ({settings.database_pool}), "
            "or set DATABASE_URL"
        )
    logs.configure(settings.log_level)  # a server that ends is told by this process, which may not be one that serves
    server = EmbeddedPostgres.start(settings.data_dir)
    try:
        yield server.url
    finally:
        server.stop()


@contextlib.contextmanager
def database_beside_proxy(settings: Settings, *, may_make: bool = False) -> Iterator[str]:
    """The database of a proxy that may be running. `may_make`: make the embedded one where there is none; else that raises
    `StartupError`, as does an embedded server that can't be started."""
    if settings.database_url is None:
        if running := EmbeddedPostgres.url_of_running(settings.data_dir):
            with _said_where(running):
                yield running
            return
        if not may_make and not (settings.data_dir / "postgres").exists():
            raise StartupError(f"there is no database in DATA_DIR ({settings.data_dir}); `billing-proxy migrate` makes one")
    with own_database(settings) as url, _said_where(url):
        yield url


@contextlib.contextmanager
def _said_where(url: str) -> Iterator[None]:
    """That a database is away is told with its address, and with the cause, neither of which clients of a proxy are to see."""
    try:
        yield
    except Unavailable as away:
        raise unreachable(url, away) from away


def unreachable(url: str, error: Exception) -> StartupError:
    return StartupError(f"can't reach the database {make_url(url).render_as_string()}: {said(error)}")


def on_database(settings: Settings, work: Callable[[Database], Awaitable[T]]) -> T:
    """What `work` returns, done on the database beside a proxy. Raises `StartupError` where it can't be used."""

    async def run(url: str) -> T:
        database = Database(url, pool_size=2)
        try:
            return await work(database)
        finally:
            await database.close()

    logs.configure(settings.log_level)
    with database_beside_proxy(settings) as url:
        try:
            return asyncio.run(run(url))
        except DBAPIError as error:
            hint = "; run `billing-proxy migrate`" if sqlstate(error) in _NOT_MIGRATED else ""
            raise StartupError(f"the database refuses this: {said(error)}{hint}") from error


async def pages(read: Callable[[int, str | None], Awaitable[Page[T]]], *, limit: int) -> tuple[list[T], bool]:
    """Up to `limit` rows of a listing, and whether there are more. `read` takes a page's size and a cursor."""
    rows: list[T] = []
    cursor = None
    while True:
        page = await read(min(limit - len(rows), LARGEST_PAGE), cursor)
        rows += page.rows
        cursor = page.next_cursor
        if cursor is None or len(rows) >= limit:
            return rows, cursor is not None
