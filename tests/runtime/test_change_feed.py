"""A listener whose connection ends at a bad moment."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database import FEED_POOL, Database
from app.runtime.change_feed import ChangeFeed, Changes
from tests.harness.postgres import Database as Server

NAME = "a listener that is cut off"
CUT_OFF = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = :name")


class _CutsOff(Database):
    """Before the first notice that tries the listener's connection, that connection is ended."""

    tries = 0

    @asynccontextmanager
    async def autocommit(self) -> AsyncIterator[AsyncConnection]:
        self.tries += 1
        async with super().autocommit() as connection:
            if self.tries == 1:
                await connection.execute(CUT_OFF, {"name": NAME})
            yield connection


async def test_one_cut_off_before_it_has_heard_anything_is_not_taken_for_deaf(db: Server) -> None:
    listening, speaking = Database(db.url, pool_size=FEED_POOL, application_name=NAME), _CutsOff(db.url)
    heard = asyncio.Event()

    async def changed(_: Changes) -> None:
        heard.set()

    feed = asyncio.create_task(ChangeFeed(listening, speaking, listens=True, poll=3600, changed=changed).run())
    try:
        async with asyncio.timeout(30):
            await heard.wait()
        assert speaking.tries == 2
    finally:
        feed.cancel()
        await asyncio.wait([feed])
        await listening.close()
        await speaking.close()
