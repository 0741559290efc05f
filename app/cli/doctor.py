"""`billing-proxy doctor`: looks at everything that a proxy needs, changes nothing, and says what to do.

Exit code 0: nothing is wrong, warnings or not; 1: something is.
"""

from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated

import typer
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table
from sqlalchemy.exc import DBAPIError

from app import logs
from app.catalog.routing import Catalog
from app.catalog.upstreams import UpstreamRoutes, list_upstreams
from app.catalog.vault import Vault
from app.cli import surroundings
from app.cli.database import on_database, pages
from app.cli.options import AsJson
from app.cli.output import plain, print_json
from app.database import OWN_POOLS, Database, said
from app.errors import ProxyError, StartupError
from app.reports import catalog_check, database_check
from app.reports.findings import Finding, ok, warning, wrong
from app.runtime.change_feed import ChangeFeed, Changes
from app.runtime.migrations import VERSION_TABLE, head
from app.runtime.platform_keys import PlatformKeys
from app.runtime.secrets_file import read_secrets
from app.settings import Settings

cli = typer.Typer(add_completion=False)

EVERY = 1_000_000
"""More upstreams than anybody has."""
_LOOKS = {"ok": "[green]ok[/]", "warning": "[yellow]warning[/]", "wrong": "[bold red]wrong[/]"}
Told = Callable[[str], None]


@cli.command()
def doctor(
    as_json: AsJson = False,
    ask_upstreams: Annotated[bool, typer.Option("--upstreams/--no-upstreams", help="Whether upstreams are asked for their models.")] = True,
) -> None:
    """Look at everything that a proxy needs, and say what to do. Nothing is changed.

    Exit code 0: nothing is wrong, 1: something is."""
    logs.configure("warning")  # to standard error
    console = Console(stderr=True)
    with console.status("Looking") as status:
        found = examine(lambda area: status.update(f"Looking at {area}"), ask_upstreams=ask_upstreams)
    states = [finding.state for finding in found]
    is_well = "wrong" not in states
    if as_json:
        print_json({"ok": is_well, "findings": [asdict(finding) for finding in found]})
    else:
        _show(found)
    raise typer.Exit(0 if is_well else 1)


def examine(tell: Told, *, ask_upstreams: bool) -> list[Finding]:
    """`tell`: what is looked at now."""
    tell("settings")
    try:
        settings = Settings.load()
    except StartupError as refused:
        return [wrong("settings", str(refused), "correct it in the environment or in .env; README says what each takes")]
    found = [ok("settings", "every setting can be read")]
    for look in (surroundings.secrets, surroundings.spool, surroundings.disk):
        tell(look.__name__)
        found += look(settings)
    tell("the database")
    try:
        found += on_database(settings, lambda database: _database(database, settings, tell, ask_upstreams=ask_upstreams))
    except (StartupError, ProxyError, OSError) as refused:
        hint = (
            "start it, or correct DATABASE_URL"
            if settings.database_url
            else "`billing-proxy serve` makes and starts it; or set DATABASE_URL"
        )
        found.append(wrong("database", str(refused), hint))
    return found


async def _database(database: Database, settings: Settings, tell: Told, *, ask_upstreams: bool) -> list[Finding]:
    needs = database_check.Needs(
        connections=settings.workers * (settings.database_pool + OWN_POOLS),
        zone=settings.log_time_zone,
        lease=settings.lease,
        platform_keys=PlatformKeys.of(settings),
    )
    async with database.reading() as session:
        found = [finding async for finding in database_check.server(session, needs)]
        migrated = await database_check.migrations(session, head=head(), table=VERSION_TABLE)
        found.append(migrated)
        if migrated.state != "ok":
            return found
        found += await database_check.tables(session, needs)
        found.append(await database_check.triggers(session))
        found.append(await database_check.rows_ahead(session, settings.log_time_zone))
        found.append(await database_check.holds(session, settings.lease))
    tell("notices of changes")
    found.append(await _notices(database, settings))
    tell("upstreams and prices")
    return found + await _catalog(database, settings, ask_upstreams=ask_upstreams)


async def _notices(database: Database, settings: Settings) -> Finding:
    feed = ChangeFeed(database, database, listens=True, poll=settings.change_poll, changed=_nothing)
    try:
        heard = await feed.hears()
    except (DBAPIError, OSError) as error:
        return warning("changes", f"notices of changes can't be tried: {said(error)}", "see what is said of the database")
    if heard:
        return ok("changes", "notices of changes come through")
    return warning(
        "changes",
        f"notices don't come through, as behind a pooler in transaction mode: changes by others take {settings.change_poll:g} s",
        "let DATABASE_URL lead to the server itself, or set CHANGE_FEED=poll, if that is meant so",
    )


async def _nothing(_: Changes) -> None:
    """The feed is only tried."""


async def _catalog(database: Database, settings: Settings, *, ask_upstreams: bool) -> list[Finding]:
    secret_key = settings.secret_key or SecretStr(read_secrets(settings.data_dir).get("SECRET_KEY", ""))
    if not secret_key.get_secret_value():
        return []  # said where secrets were looked at
    vault = Vault.of(settings.model_copy(update={"secret_key": secret_key}))
    async with database.reading() as session:
        found = await catalog_check.secrets(session, vault)
        listed: tuple[list[UpstreamRoutes], bool] = await pages(
            lambda size, cursor: list_upstreams(session, limit=size, cursor=cursor), limit=EVERY
        )
    catalog = Catalog(database, vault)
    await catalog.refresh()
    found += catalog_check.prices(catalog.snapshot, allow_unpriced=settings.allow_unpriced)
    if ask_upstreams:
        enabled = [upstream for upstream in listed[0] if not upstream.disabled]
        found += await catalog_check.upstreams(
            database, vault=vault, catalog=catalog, enabled=enabled, allow_link_local=settings.allow_link_local_upstreams
        )
    return found


def _show(found: list[Finding]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    area = None
    for finding in found:
        says = plain(finding.says)
        if finding.do is not None:
            says += f"\n[cyan]-> {plain(finding.do)}[/]"
        table.add_row(_LOOKS[finding.state], finding.area if finding.area != area else "", says)
        area = finding.area
    console = Console(highlight=False)
    console.print(table)
    counts = {state: sum(finding.state == state for finding in found) for state in ("wrong", "warning")}
    console.print(f"\n{counts['wrong']} wrong, {counts['warning']} to be looked at, {len(found) - sum(counts.values())} as they should be.")
