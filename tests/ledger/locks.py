"""A row that somebody else has locked."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import asyncpg
from sqlalchemy import make_url

from tests.harness.background import Background
from tests.harness.postgres import Database, connect


@contextmanager
def locked(db: Database, table: str, column: str, value: object, *, change: str | None = None) -> Iterator[Callable[[], None]]:
    """Somebody else's transaction, which has a row locked until it is told to end; `change`: what it has set there."""
    background = Background()
    connection: asyncpg.Connection = background.run(connect(make_url(db.url)))
    background.run(connection.execute("BEGIN"))
    background.run(connection.fetch(f"SELECT 1 FROM aigcspace.{table} WHERE {column} = $1 FOR UPDATE", value))
    if change is not None:
        background.run(connection.execute(f"UPDATE aigcspace.{table} SET {change} WHERE {column} = $1", value))
    yield lambda: background.run(connection.execute("COMMIT"))
    background.run(connection.close())
    background.close()
