"""`billing-proxy logs tail`: no row is missed, and none told twice, in whatever order they are committed."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from sqlalchemy import make_url

from app.database import Database as LedgerDatabase
from app.reports.calls import CallFilters
from app.reports.tail import Tail
from tests.harness.postgres import Database, connect

INSERT = """
    INSERT INTO aigcspace.api_call_log (user_id, model_name, is_local, input_tokens, output_tokens, bill, status)
    VALUES ('u', $1, false, 1, 1, 0, 'success')
"""


@pytest.fixture
async def database(db: Database) -> AsyncIterator[LedgerDatabase]:
    opened = LedgerDatabase(db.url, pool_size=1)
    yield opened
    await opened.close()


async def look(tail: Tail, database: LedgerDatabase) -> list[Any]:
    async with database.reading() as session:
        return [row["model_name"] for row in await tail.look(session)]


async def test_rows_that_are_committed_out_of_order(db: Database, database: LedgerDatabase) -> None:
    db.execute("INSERT INTO aigcspace.users (id) VALUES ('u')")
    for name in ("first", "second", "third"):
        db.execute(INSERT, name)
    tail = Tail(CallFilters(), "UTC")
    late: asyncpg.Connection = await connect(make_url(db.url))
    try:
        await late.execute("BEGIN")
        await late.execute(INSERT, "late")
        async with database.reading() as session:
            assert [row["model_name"] for row in await tail.begin(session, last=2)] == ["second", "third"]
        db.execute(INSERT, "early")
        assert await look(tail, database) == ["early"]
        for number in range(3):
            db.execute(INSERT, f"later {number}")
            assert await look(tail, database) == [f"later {number}"]
        await late.execute("COMMIT")
        assert await look(tail, database) == ["late"]
        for _ in range(3):
            assert await look(tail, database) == []
        assert len(tail._told) <= 1, "what nobody can add to any more is forgotten"
    finally:
        await late.close()
