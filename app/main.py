"""The application: what it is made of, and the order in which it starts and stops."""

import asyncio
import gc
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
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
from app.api.session import Sessions
from app.catalog.guesses import Guesses
from app.dashboard import include_dashboard
from app.database import is_away, said
from app.errors import Unavailable
from app.gateway.call import Gateway
from app.process import Process, open_process
from app.reports.export import Exports
from app.reports.open_calls import OpenCalls
from app.runtime.demo_model import PATH, demo_app
from app.runtime.ending import before_ending, is_worker
from app.settings import Settings

log = structlog.get_logger(__name__)

COLLECT_AT = (10_000, 20, 50)
"""Objects, and collections of younger ones, between looks for cycles: what a call makes is freed without them (5 % of CPU)."""
DATABASE_WAIT, DATABASE_RETRY = 20.0, 0.5
"""Seconds."""
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
    include_dashboard(app)
    patch_fastapi(app)  # /docs, with its scripts from an installed package: FastAPI's own page loads them from elsewhere
    if demo_secret is not None:
        app.mount(PATH, demo_app(demo_secret))
    return app


@asynccontextmanager
async def _running(app: FastAPI, settings: Settings) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        process = await _open(stack, settings)
        app.state.services = _services(process)
        before_ending(partial(_refuse_new_calls, process.gateway, asyncio.get_running_loop()))
        gc.collect()
        gc.freeze()  # what lives as long as the process need not be looked at again
        gc.set_threshold(*COLLECT_AT)
        gc.enable()
        yield
        await process.ledger.finish(settings.shutdown_wait)
        process.ledger.calls.tell()
        process.shared_counts.write()


async def _open(stack: AsyncExitStack, settings: Settings) -> Process:
    """A worker waits for a database that has gone since its parent began: one that fails to start ends the parent, and all."""
    give_up = time.monotonic() + DATABASE_WAIT
    while True:
        async with AsyncExitStack() as opening:
            try:
                process = await open_process(opening, settings)
            except Exception as error:
                if not (is_worker() and (isinstance(error, Unavailable) or is_away(error)) and time.monotonic() < give_up):
                    raise
                log.warning("this worker waits for the database", reason=said(error))
            else:
                await stack.enter_async_context(opening.pop_all())
                return process
        await asyncio.sleep(DATABASE_RETRY)


def _refuse_new_calls(gateway: Gateway, loop: asyncio.AbstractEventLoop, told: signal.Signals) -> None:
    """In a signal's handler: what prints may be in the middle of a line just now, so that the loop says it."""
    gateway.accepting = False
    with suppress(RuntimeError):  # it is closed
        loop.call_soon_threadsafe(partial(log.info, "stopping: calls in flight are let finish", signal=told.name))


def _services(process: Process) -> Services:
    settings, database = process.settings, process.databases.operators
    return Services(
        settings=settings,
        database=database,
        calls_database=process.databases.calls,
        vault=process.vault,
        catalog=process.catalog,
        callers=process.callers,
        gateway=process.gateway,
        spool=process.ledger.spool,
        exports=Exports(database),
        guesses=Guesses(settings.guesses_per_minute),
        readings=process.readings,
        shared_counts=process.shared_counts,
        open_calls=OpenCalls(process.databases.calls),
        sessions=Sessions(settings),
    )
