"""The application: what it is made of, and the order in which it starts and stops."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from importlib.metadata import version

import structlog
from fastapi import FastAPI
from fastapi_swagger import patch_fastapi
from uuid_utils.compat import uuid7

from app import logs
from app.api import include_all
from app.api.data_plane import include_data_plane
from app.api.dependencies import Services
from app.api.problems import install as install_problems
from app.catalog.callers import Callers
from app.catalog.routing import Catalog
from app.catalog.vault import Vault
from app.database import Database
from app.errors import StartupError
from app.gateway.admit import Admitter
from app.gateway.call import Gateway
from app.gateway.estimate import Tokenizer
from app.gateway.transport import Transport
from app.ledger.hold import Holds
from app.ledger.settlement import Settlement
from app.runtime.demo_model import PATH, demo_app
from app.runtime.ending import before_ending, end_with_parent
from app.runtime.tasks import OwnedTasks
from app.settings import Settings

log = structlog.get_logger(__name__)

DESCRIPTION = "An OpenAI-compatible reverse proxy that meters, bills and logs every call exactly once."


def create_app(settings: Settings | None = None, *, demo_secret: str | None = None) -> FastAPI:
    """`demo_secret`: serve the demo model, to whoever presents it."""
    settings = settings or Settings.load()
    logs.configure(settings.log_level)
    app = FastAPI(
        title="aigcspace billing proxy",
        version=version("aigcspace-billing-proxy"),
        description=DESCRIPTION,
        lifespan=lambda app: _running(app, settings),
        docs_url=None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        redirect_slashes=False,  # to whatever `Host` the caller sent
    )
    install_problems(app)
    include_data_plane(app)  # first: routes are tried in order
    include_all(app)
    patch_fastapi(app)  # /docs, with its scripts from an installed package: FastAPI's own page loads them from elsewhere
    if demo_secret is not None:
        app.mount(PATH, demo_app(demo_secret))
    return app


@asynccontextmanager
async def _running(app: FastAPI, settings: Settings) -> AsyncIterator[None]:
    """Services start from the database up to the gateway, and stop in reverse."""
    if settings.database_url is None or settings.secret_key is None or settings.admin_token is None:
        raise StartupError("DATABASE_URL, SECRET_KEY and ADMIN_TOKEN must be set. `billing-proxy serve` sets what is missing.")
    async with AsyncExitStack() as stack:
        database = Database(settings.database_url, pool_size=settings.database_pool)
        stack.push_async_callback(database.close)
        vault = Vault(settings.secret_key.get_secret_value())
        catalog = Catalog(database, vault)
        await catalog.refresh()
        callers = Callers(database, default_credit=settings.default_credit)
        holds = Holds(database, instance_id=uuid7())
        settlement = Settlement(database, time_zone=settings.log_time_zone)
        tokenizer = Tokenizer(settings.data_dir / "tokenizer")
        tasks = await stack.enter_async_context(OwnedTasks())
        tasks.spawn(holds.run(), name="holds")
        tasks.spawn(settlement.run(), name="settlement")
        tasks.spawn(catalog.watch(), name="catalog watch")
        gateway = Gateway(
            settings=settings,
            callers=callers,
            admitter=Admitter(settings=settings, catalog=catalog, holds=holds, tokenizer=tokenizer),
            transport=await stack.enter_async_context(Transport(settings)),
            settlement=settlement,
            tokenizer=tokenizer,
            tasks=tasks,
        )
        app.state.services = Services(settings=settings, database=database, vault=vault, catalog=catalog, callers=callers, gateway=gateway)
        before_ending(partial(setattr, gateway, "accepting", False))
        tasks.spawn(end_with_parent(), name="parent")
        gc.collect()
        gc.freeze()  # what lives as long as the process need not be looked at again
        yield
        await _settle_all(settlement, settings.shutdown_wait)


async def _settle_all(settlement: Settlement, longest: float) -> None:
    try:
        async with asyncio.timeout(longest):
            await settlement.drained()
    except TimeoutError:
        log.error("stopped with calls unsettled", calls=settlement.open)
