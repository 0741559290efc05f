"""The application: what it is made of, and the order in which it starts and stops."""

import gc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from importlib.metadata import version

import structlog
from fastapi import FastAPI
from fastapi_swagger import patch_fastapi

from app import logs
from app.api import include_all
from app.api.data_plane import include_data_plane
from app.api.dependencies import Services
from app.api.problems import install as install_problems
from app.catalog.callers import Callers
from app.catalog.routing import Catalog
from app.catalog.vault import Vault
from app.database import FEED_POOL, LEDGER_POOL, LEDGER_TIMEOUT, Database
from app.errors import StartupError
from app.gateway.admit import Admitter
from app.gateway.background import Background
from app.gateway.call import Gateway
from app.gateway.estimate import Tokenizer
from app.gateway.transport import Transport
from app.gateway.upload import UploadSpace
from app.ledger.background import BackgroundCalls
from app.ledger.ledger import Ledger
from app.ledger.objects import UpstreamObjects
from app.ledger.spool import Spool
from app.runtime.change_feed import Changed, ChangeFeed, Changes
from app.runtime.demo_model import PATH, demo_app
from app.runtime.ending import before_ending, end_with_parent
from app.runtime.platform_keys import PlatformKeys
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
        vault = Vault.of(settings)
        catalog = Catalog(database, vault)
        await catalog.refresh()
        ledger = await _start_ledger(stack, settings, settings.database_url)
        tokenizer = Tokenizer(settings.data_dir / "tokenizer")
        tasks = await stack.enter_async_context(OwnedTasks())
        callers = Callers(
            database,
            tasks,
            default_credit=settings.default_credit,
            longest_wait=settings.admit_wait,
            platform_keys=PlatformKeys.of(settings),
        )
        for name, work in ledger.work().items():
            tasks.spawn(work, name=name, essential=True)
        tasks.spawn(_change_feed(stack, settings, database, partial(_take_in, catalog, callers)).run(), name="change feed")
        transport = await stack.enter_async_context(Transport(settings))
        background = Background(
            BackgroundCalls(database),
            catalog=catalog,
            transport=transport,
            settlement=ledger.settlement,
            tokenizer=tokenizer,
            settle_wait=settings.settle_wait,
            patience=settings.background_wait,
        )
        tasks.spawn(background.run(), name="background responses")
        gateway = Gateway(
            settings=settings,
            database=database,
            callers=callers,
            admitter=Admitter(settings=settings, catalog=catalog, holds=ledger.holds, spool=ledger.spool, tokenizer=tokenizer),
            transport=transport,
            settlement=ledger.settlement,
            objects=UpstreamObjects(database, longest_wait=settings.admit_wait),
            background=background,
            tokenizer=tokenizer,
            uploads=UploadSpace(settings.data_dir / "uploads", most=settings.uploads_max_bytes),
            tasks=tasks,
        )
        app.state.services = Services(
            settings=settings,
            database=database,
            vault=vault,
            catalog=catalog,
            callers=callers,
            gateway=gateway,
            spool=ledger.spool,
        )
        before_ending(partial(setattr, gateway, "accepting", False))
        tasks.spawn(end_with_parent(), name="parent")
        gc.collect()
        gc.freeze()  # what lives as long as the process need not be looked at again
        gc.enable()
        yield
        await ledger.finish(settings.shutdown_wait)


def _change_feed(stack: AsyncExitStack, settings: Settings, database: Database, changed: Changed) -> ChangeFeed:
    assert settings.database_url is not None
    listening = Database(settings.database_url, pool_size=FEED_POOL, application_name="billing-proxy changes")
    stack.push_async_callback(listening.close)
    return ChangeFeed(listening, database, listens=settings.change_feed == "auto", poll=settings.change_poll, changed=changed)


async def _take_in(catalog: Catalog, callers: Callers, changes: Changes) -> None:
    """What others have changed."""
    if changes.callers or changes.everything:
        callers.forget(None if changes.everything else changes.callers)
    if changes.catalog or changes.everything:
        await catalog.refresh()


async def _start_ledger(stack: AsyncExitStack, settings: Settings, url: str) -> Ledger:
    database = Database(url, pool_size=LEDGER_POOL, timeout=LEDGER_TIMEOUT, application_name="billing-proxy ledger")
    stack.push_async_callback(database.close)
    ledger = Ledger(
        database,
        spool=Spool(settings.data_dir / "spool", largest=settings.spool_max_bytes),
        lease=settings.lease,
        admit_wait=settings.admit_wait,
        time_zone=settings.log_time_zone,
        objects_age=settings.objects_age,
    )
    stack.push_async_callback(ledger.spool.close)
    await ledger.lease.renew()
    return ledger
