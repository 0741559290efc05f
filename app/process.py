"""What a serving process is made of: opened from the database up to the gateway, closed in reverse.

Its tasks begin last and end first, so that none of them finds closed what it works with.
"""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

from app import logs
from app.catalog.callers import Callers
from app.catalog.guesses import Guesses
from app.catalog.routing import Catalog
from app.catalog.vault import Vault
from app.database import CALLS_POOL, FEED_POOL, LEDGER_POOL, LEDGER_TIMEOUT, Database
from app.errors import StartupError
from app.gateway.admission.admit import Admitter
from app.gateway.answering.background import Background
from app.gateway.call import Gateway
from app.gateway.forms.upload import UploadSpace
from app.gateway.forwarding.transport import Transport
from app.gateway.metering.estimate import Tokenizer
from app.gateway.watching.call_counts import CallCounts
from app.gateway.watching.call_lines import CallLines
from app.gateway.watching.readings import Readings
from app.gateway.watching.watch import Watch
from app.ledger.background import BackgroundCalls
from app.ledger.ledger import Ledger
from app.ledger.objects import UpstreamObjects
from app.ledger.spool import Spool
from app.metrics import Metrics
from app.metrics.shared import SharedCounts
from app.notify.channels import channels_of
from app.notify.notices import Notices
from app.reports.outbox import Outbox
from app.runtime.change_feed import ChangeFeed, Changes
from app.runtime.ending import end_with_parent
from app.runtime.loop_lag import measure_loop_lag
from app.runtime.platform_keys import PlatformKeys
from app.runtime.tasks import OwnedTasks
from app.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Databases:
    """Pools of one database. Nothing that operators or reports ask for takes a connection that calls need."""

    calls: Database
    operators: Database
    ledger: Database
    feed: Database

    @classmethod
    def opened(cls, stack: AsyncExitStack, settings: Settings) -> "Databases":
        if settings.database_url is None:
            raise StartupError("DATABASE_URL must be set. `billing-proxy serve` sets what is missing.")
        pool = partial(Database, settings.database_url)
        databases = cls(
            calls=pool(pool_size=CALLS_POOL, application_name="billing-proxy calls"),
            operators=pool(pool_size=settings.database_pool),
            ledger=pool(pool_size=LEDGER_POOL, timeout=LEDGER_TIMEOUT, application_name="billing-proxy ledger"),
            feed=pool(pool_size=FEED_POOL, application_name="billing-proxy changes"),
        )
        stack.push_async_callback(databases.close)
        return databases

    async def close(self) -> None:
        """At the same time: each waits for a server that hangs."""
        await asyncio.gather(*(database.close() for database in (self.calls, self.operators, self.ledger, self.feed)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    settings: Settings
    databases: Databases
    vault: Vault
    catalog: Catalog
    callers: Callers
    ledger: Ledger
    gateway: Gateway
    outbox: Outbox
    notices: Notices
    readings: Readings
    shared_counts: SharedCounts
    tasks: OwnedTasks


async def open_process(stack: AsyncExitStack, settings: Settings) -> Process:
    """Raises `StartupError` where a setting is missing, `Unavailable` where the database can't be reached."""
    if settings.secret_key is None or settings.admin_token is None:
        raise StartupError("SECRET_KEY and ADMIN_TOKEN must be set. `billing-proxy serve` sets what is missing.")
    databases = Databases.opened(stack, settings)
    vault = Vault.of(settings)
    catalog = Catalog(databases.calls, vault)
    await catalog.refresh()
    metrics = Metrics()
    ledger = await _open_ledger(stack, settings, databases.ledger, metrics)
    ledger.calls.listeners.append(CallCounts(metrics, catalog))
    if settings.log_calls and logs.is_shown("info"):
        ledger.calls.listeners.append(CallLines(catalog))
    tasks = OwnedTasks()
    callers = Callers(
        databases.calls,
        tasks,
        default_credit=settings.default_credit,
        longest_wait=settings.admit_wait,
        guesses=Guesses(settings.guesses_per_minute),
        platform_keys=PlatformKeys.of(settings),
    )
    outbox = Outbox(databases.operators, again=settings.notify_again)
    notices = Notices(outbox, channels_of(settings), again=settings.notify_again)
    transport = await stack.enter_async_context(Transport(settings))
    gateway = _make_gateway(
        settings,
        databases,
        catalog=catalog,
        callers=callers,
        ledger=ledger,
        transport=transport,
        tasks=tasks,
        metrics=metrics,
        notices=notices,
    )
    pools = {"calls": databases.calls, "operators": databases.operators, "ledger": databases.ledger}
    readings = Readings(metrics, gateway, ledger, pools)
    process = Process(
        settings=settings,
        databases=databases,
        vault=vault,
        catalog=catalog,
        callers=callers,
        ledger=ledger,
        gateway=gateway,
        outbox=outbox,
        notices=notices,
        readings=readings,
        shared_counts=SharedCounts(metrics.families(), sample=readings.take),
        tasks=await stack.enter_async_context(tasks),
    )
    await _start_tasks(process)
    return process


async def _open_ledger(stack: AsyncExitStack, settings: Settings, database: Database, metrics: Metrics) -> Ledger:
    ledger = Ledger(
        database,
        spool=Spool(settings.data_dir / "spool", largest=settings.spool_max_bytes),
        lease=settings.lease,
        admit_wait=settings.admit_wait,
        time_zone=settings.log_time_zone,
        objects_age=settings.objects_age,
        metrics=metrics,
    )
    stack.push_async_callback(ledger.spool.close)
    await ledger.lease.renew()
    return ledger


def _make_gateway(
    settings: Settings,
    databases: Databases,
    *,
    catalog: Catalog,
    callers: Callers,
    ledger: Ledger,
    transport: Transport,
    tasks: OwnedTasks,
    metrics: Metrics,
    notices: Notices,
) -> Gateway:
    tokenizer = Tokenizer(settings.data_dir / "tokenizer")
    background = Background(
        BackgroundCalls(databases.calls),
        catalog=catalog,
        transport=transport,
        settlement=ledger.settlement,
        tokenizer=tokenizer,
        settle_wait=settings.settle_wait,
        patience=settings.background_wait,
    )
    return Gateway(
        settings=settings,
        database=databases.calls,
        callers=callers,
        admitter=Admitter(settings=settings, catalog=catalog, holds=ledger.holds, spool=ledger.spool, tokenizer=tokenizer),
        transport=transport,
        settlement=ledger.settlement,
        objects=UpstreamObjects(databases.calls, longest_wait=settings.admit_wait),
        background=background,
        tokenizer=tokenizer,
        uploads=UploadSpace(settings.data_dir / "uploads", most=settings.uploads_max_bytes),
        tasks=tasks,
        metrics=metrics,
        notices=notices,
    )


async def _start_tasks(process: Process) -> None:
    """Returns when this process would hear of what others change."""
    settings, databases, gateway, spawn = process.settings, process.databases, process.gateway, process.tasks.spawn
    for name, work in process.ledger.work().items():
        spawn(work, name=name, essential=True)
    feed = ChangeFeed(
        databases.feed,
        databases.calls,
        listens=settings.change_feed == "auto",
        poll=settings.change_poll,
        changed=partial(_take_in, process.catalog, process.callers),
    )
    spawn(feed.run(), name="change feed")
    spawn(gateway.background.run(), name="background responses")
    spawn(process.shared_counts.run(), name="metrics of workers")
    spawn(measure_loop_lag(gateway.metrics.loop_lag), name="event loop lag")
    if process.notices.channels:
        watch = Watch(process.notices, gateway, process.ledger.spool, process.outbox, low_balance=settings.notify_low_balance)
        spawn(process.notices.run(), name="notifications")
        spawn(watch.run(), name="what is notified")
    spawn(end_with_parent(), name="parent")
    await feed.begun()


async def _take_in(catalog: Catalog, callers: Callers, changes: Changes) -> None:
    """What others have changed."""
    if changes.callers or changes.everything:
        callers.forget(None if changes.everything else changes.callers)
    if changes.catalog or changes.everything:
        await catalog.refresh()
