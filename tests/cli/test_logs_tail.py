"""`billing-proxy logs tail`: no row is missed, and none told twice, in whatever order they are committed."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from sqlalchemy import make_url

from app.database import Database as LedgerDatabase
from app.reports import following
from app.reports.calls import CallFilters
from app.reports.following import Following
from tests.harness.postgres import Database, connect
from tests.ledger.calls import make_payer

INSERT = """
    INSERT INTO aigcspace.api_call_log (user_id, model_name, is_local, input_tokens, output_tokens, bill, status)
    VALUES ($1, $2, false, 1, 1, 0, 'success')
"""


@pytest.fixture
async def database(db: Database) -> AsyncIterator[LedgerDatabase]:
    opened = LedgerDatabase(db.url, pool_size=1)
    yield opened
    await opened.close()


@pytest.fixture
def user(db: Database) -> str:
    return make_payer(db).user_id


@pytest.fixture
async def others(db: Database) -> AsyncIterator[list[asyncpg.Connection]]:
    opened = [await connect(make_url(db.url)) for _ in range(2)]
    yield opened
    for connection in opened:
        await connection.close()


async def begin(tail: Following, database: LedgerDatabase, *, last: int) -> list[Any]:
    async with database.reading() as session:
        return [row["model_name"] for row in await tail.begin(session, last=last)]


async def look(tail: Following, database: LedgerDatabase) -> list[Any]:
    async with database.reading() as session:
        return [row["model_name"] for row in await tail.look(session)]


async def test_rows_that_are_committed_out_of_order(
    db: Database, database: LedgerDatabase, user: str, others: list[asyncpg.Connection]
) -> None:
    for name in ("first", "second", "third"):
        db.execute(INSERT, user, name)
    tail, (late, later) = Following(CallFilters(user_id=user), "UTC"), others
    for other, name in ((late, "late"), (later, "later")):
        await other.execute("BEGIN")
        await other.execute(INSERT, user, name)
    assert await begin(tail, database, last=10) == ["first", "second", "third"]

    db.execute(INSERT, user, "early")
    await later.execute("COMMIT")
    assert await look(tail, database) == []
    await late.execute("COMMIT")

    assert await look(tail, database) == ["late", "later", "early"]
    db.execute(INSERT, user, "last")
    assert await look(tail, database) == ["last"]
    assert await look(tail, database) == []


async def test_old_transactions_that_write_no_calls_hold_nothing_back(
    db: Database, database: LedgerDatabase, user: str, others: list[asyncpg.Connection]
) -> None:
    tail = Following(CallFilters(user_id=user), "UTC")
    assert await begin(tail, database, last=10) == []
    for other in others:
        await other.execute("BEGIN")
        await other.execute("CREATE TEMPORARY TABLE anything ()")  # it writes, but elsewhere

    db.execute(INSERT, user, "a")

    assert await look(tail, database) == ["a"]


async def test_many_come_by_pages_and_begin_where_the_last_ones_do(
    db: Database, database: LedgerDatabase, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "MOST_BEFORE", 3)
    tail = Following(CallFilters(user_id=user), "UTC")
    names = [f"m{number}" for number in range(10)]
    for name in names:
        db.execute(INSERT, user, name)
    assert await begin(tail, database, last=2) == names[-2:]

    for name in names:
        db.execute(INSERT, user, name)

    assert await look(tail, database) == names
