"""`billing-proxy demo`."""

import asyncio

from sqlalchemy.exc import DBAPIError

from app.catalog.first_start import remove_demo
from app.cli.database import database_beside_proxy
from app.database import Database, said
from app.errors import StartupError
from app.settings import Settings


def remove(settings: Settings) -> bool:
    """Whether there was a demo. Raises `StartupError`."""
    with database_beside_proxy(settings) as url:
        return asyncio.run(_remove(url))


async def _remove(url: str) -> bool:
    database = Database(url, pool_size=2)
    try:
        async with database.transaction() as session:
            return await remove_demo(session)
    except DBAPIError as error:
        raise StartupError(f"can't look for the demo: {said(error)}; run `billing-proxy migrate` if that was never done") from error
    finally:
        await database.close()
