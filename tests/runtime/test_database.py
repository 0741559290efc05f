"""What is said of the database never holds what was sent to it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.database import Database, is_away, is_locked, said
from tests.harness import postgres


async def test_an_error_does_not_repeat_the_parameters(db: postgres.Database) -> None:
    database = Database(db.url, pool_size=1)
    with pytest.raises(DBAPIError) as failed:
        async with database.transaction() as session:
            await session.execute(text("SELECT 1 / length(:secret)::int / 0"), {"secret": "hunter2"})
    await database.close()
    assert "hunter2" not in str(failed.value)


ONE = text("SELECT CAST(:value AS int) + 1 AS answer")


@pytest.fixture
async def database(db: postgres.Database) -> AsyncIterator[Database]:
    made = Database(db.url, pool_size=1, timeout=0.5)
    yield made
    assert made.connections == (1, 0)
    await made.close()


async def answer(database: Database) -> int:
    ((found,),) = await database.rows(database.written(ONE), {"value": 1})
    return int(found)


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_what_the_driver_says_is_told_without_the_row(database: Database) -> None:
    spoilt = text("INSERT INTO aigcspace.users (id) VALUES (:secret), (:secret)")
    with pytest.raises(asyncpg.UniqueViolationError) as failed:
        await database.count(database.written(spoilt), {"secret": "hunter2"})
    assert "hunter2" in str(failed.value)
    assert "hunter2" not in said(failed.value)
    assert not is_away(failed.value)
    assert await answer(database) == 2


async def test_a_value_that_is_missing_is_no_null(database: Database) -> None:
    with pytest.raises(KeyError):
        await database.rows(database.written(ONE), {"valeu": 1})


async def test_a_connection_that_the_server_has_closed_is_replaced(database: Database, db: postgres.Database) -> None:
    async with database._driver() as driver:
        pass
    db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
    await until(driver.is_closed)
    assert await answer(database) == 2


@pytest.mark.parametrize("cut", ["in time", "cancelled"])
async def test_a_connection_without_an_answer_is_not_used_again(database: Database, db: postgres.Database, cut: str) -> None:
    begun = asyncio.create_task(database.rows(database.written(text("SELECT pg_backend_pid(), pg_sleep(:seconds)")), {"seconds": 20}))
    if cut == "cancelled":
        sleeping = "datname = current_database() AND state = 'active' AND pid <> pg_backend_pid() AND query LIKE '%pg_sleep($%'"
        await until(lambda: begun.done() or db.value(f"SELECT count(*) FROM pg_stat_activity WHERE {sleeping}"))
        begun.cancel()
    with pytest.raises((TimeoutError, asyncio.CancelledError)):
        await begun
    assert await answer(database) == 2


async def test_a_locked_row_is_told_apart_from_a_server_that_is_away(database: Database) -> None:
    for state, expected in (("55P03", (True, True)), ("40P01", (False, True)), ("57P01", (False, True)), ("22P02", (False, False))):
        spoilt = text(f"DO $$ BEGIN RAISE SQLSTATE '{state}' USING MESSAGE = 'so it is'; END $$")
        with pytest.raises(asyncpg.PostgresError) as failed:
            await database.count(database.written(spoilt), {})
        assert (is_locked(failed.value), is_away(failed.value)) == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (asyncpg.InternalClientError("got result for unknown protocol state"), True),  # as when the server goes in mid-statement
        (asyncpg.InterfaceError("connection is closed"), True),
        (asyncpg.CannotConnectNowError("the database system is starting up"), True),
        (ConnectionRefusedError(), True),
        (asyncpg.OutdatedSchemaCacheError("the type has changed"), False),
        (ValueError(), False),
    ],
)
def test_what_tells_that_the_database_is_away(error: Exception, expected: bool) -> None:
    assert is_away(error) is expected
