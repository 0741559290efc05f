"""A row that somebody else has locked."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import asyncpg
from sqlalchemy import make_url

from tests.harness.background import Background
from tests.harness.postgres import Database, connect


@contextmanager
def locked(db: Database, table: str, column: str, value: object) -> Iterator[Callable[[], None]]:
    """Somebody else's transaction, which has a row locked until it is told to end."""
    background = Background()
    connection: asyncpg.Connection = background.run(connect(make_url(db.url)))
    background.run(connection.execute("BEGIN"))
    background.run(connection.fetch(f"SELECT 1 FROM aigcspace.{table} WHERE {column} = $1 FOR UPDATE", value))
    yield lambda: background.run(connection.execute("ROLLBACK"))
    background.run(connection.close())
    background.close()
