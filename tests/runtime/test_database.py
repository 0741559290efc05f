"""What is said of the database never holds what was sent to it."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.database import Database
from tests.harness import postgres


async def test_an_error_does_not_repeat_the_parameters(db: postgres.Database) -> None:
    database = Database(db.url, pool_size=1)
    with pytest.raises(DBAPIError) as failed:
        async with database.transaction() as session:
            await session.execute(text("SELECT 1 / length(:secret)::int / 0"), {"secret": "hunter2"})
    await database.close()
    assert "hunter2" not in str(failed.value)
