"""A real PostgreSQL for the tests: the server of `TEST_DATABASE_URL`, or the embedded one in a directory of our own, one for all
processes of a run.

The schema comes from the migrations, run once into a template database; each test module gets a copy. All names carry a
random part, and what was created is dropped, so that a shared server is left as it was found.
"""

import os
import secrets
import shutil
import tempfile
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import psutil
from sqlalchemy import URL, make_url

from tests.harness import preloaded
from tests.harness.background import Background
from tests.harness.proxy import bare_environment

T = TypeVar("T")
_PLENTY = 6 * 2**30


class Database:
    """One database and a connection to it. `url` is what `DATABASE_URL` takes."""

    def __init__(self, background: Background, url: URL) -> None:
        self._background = background
        self.url = url.render_as_string(hide_password=False)
        self._connection = background.run(connect(url))

    def fetch(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        return [dict(row) for row in self._background.run(self._connection.fetch(sql, *values))]

    def one(self, sql: str, *values: Any) -> dict[str, Any]:
        rows = self.fetch(sql, *values)
        assert len(rows) == 1, f"{len(rows)} rows instead of one for {sql} {values}"
        return rows[0]

    def value(self, sql: str, *values: Any) -> Any:
        return self._background.run(self._connection.fetchval(sql, *values))

    def execute(self, sql: str, *values: Any) -> None:
        self._background.run(self._connection.execute(sql, *values))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """For whoever may be in a loop already."""
        return self._background.run(work)

    def close(self) -> None:
        self._background.run(self._connection.close())


class Databases:
    """Creates databases on one server, from the migrated template or empty."""

    def __init__(self, background: Background, server: str) -> None:
        self._background = background
        self._server = make_url(server)
        self._prefix = f"proxy_test_{os.getpid()}_{secrets.token_hex(3)}"
        self._template: str | None = None
        self._made: list[str] = []

    @contextmanager
    def fresh(self, *, migrated: bool = True) -> Iterator[Database]:
        template = self._migrated_template() if migrated else "template0"
        name = self._create(template)
        database = Database(self._background, self._server.set(database=name))
        try:
            yield database
        finally:
            database.close()
            self._drop(name)

    def close(self) -> None:
        for name in list(self._made):
            self._drop(name)

    def _migrated_template(self) -> str:
        if self._template is None:
            name = self._create("template0")
            url = self._server.set(database=name).render_as_string(hide_password=False)
            migrate(url)
            self._template = name
        return self._template

    def _create(self, template: str) -> str:
        name = f"{self._prefix}_{len(self._made)}_{secrets.token_hex(2)}"
        self._maintain(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        self._made.append(name)
        return name

    def _drop(self, name: str) -> None:
        self._maintain(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        self._made.remove(name)

    def _maintain(self, sql: str) -> None:
        async def run() -> None:
            connection = await connect(self._server)
            try:
                await connection.execute(sql)
            finally:
                await connection.close()

        self._background.run(run())


async def connect(url: URL) -> asyncpg.Connection:
    return await asyncpg.connect(url.set(drivername="postgresql").render_as_string(hide_password=False))


def migrate(url: str) -> None:
    with tempfile.TemporaryDirectory(prefix="proxy-migrate-") as empty:
        environment = bare_environment() | {"DATABASE_URL": url, "DATA_DIR": empty}
        done = preloaded.run(["migrate"], environment=environment, directory=Path(empty))
    assert done.returncode == 0, f"billing-proxy migrate failed:\n{done.stdout}\n{done.stderr}"


@contextmanager
def server() -> Iterator[str]:
    """The URL of a server on which databases may be created."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield given
        return
    from tests.harness.own_postgres import own_postgres

    settings = {"shared_buffers": "128MB", "max_connections": "300", "max_wal_size": "256MB"}
    with (
        tempfile.TemporaryDirectory(prefix="proxy-pg-", dir=_memory(), ignore_cleanup_errors=True) as place,
        own_postgres(directory=Path(place), migrated=False, **settings) as own,
    ):
        yield own.url


def _memory() -> Path | None:
    """Where there is plenty: each database is three hundred files, which a disk takes its time to make and to remove."""
    place = Path("/dev/shm")
    if not os.access(place, os.W_OK):
        return None
    free = min(shutil.disk_usage(place).free, psutil.virtual_memory().available)
    return place if free >= _PLENTY else None
