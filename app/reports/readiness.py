"""Whether the database answers, for load balancers."""

import asyncio

from sqlalchemy import select

from app.database import Database
from app.errors import Unavailable

WITHIN = 1.0
"""Seconds."""


async def database_answers(database: Database) -> bool:
    try:
        async with asyncio.timeout(WITHIN), database.reading() as session:
            await session.execute(select(1))
    except (Unavailable, TimeoutError):
        return False
    return True
