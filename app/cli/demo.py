"""`billing-proxy demo`."""

import asyncio
from contextlib import nullcontext

from sqlalchemy.exc import DBAPIError

from app.catalog.first_start import remove_demo
from app.cli.serve import database_url
from app.database import Database
from app.errors import StartupError
from app.runtime.migrations import reason
from app.runtime.postgres import EmbeddedPostgres
from app.settings import Settings


def remove(settings: Settings) -> bool:
    """Whether there was a demo. Raises `StartupError`."""
    running = None if settings.database_url else EmbeddedPostgres.url_of_running(settings.data_dir)
    with nullcontext(running) if running else database_url(settings) as url:
        return asyncio.run(_remove(url))


async def _remove(url: str) -> bool:
    database = Database(url, pool_size=2)
    try:
        async with database.transaction() as session:
            return await remove_demo(session)
    except DBAPIError as error:
        raise StartupError(f"can't look for the demo: {reason(error)}; run `billing-proxy migrate` if that was never done") from error
    finally:
        await database.close()
