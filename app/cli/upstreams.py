"""`billing-proxy upstreams`. Secrets are read from standard input or asked for, never taken from the command line, which other
users of the machine can see."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Annotated, Any, TypeVar

import typer
from pydantic import SecretStr
from rich.console import Console
from sqlalchemy.ext.asyncio import AsyncSession

from app.catalog.offered import Offered, offered_models
from app.catalog.probe import ProbeResult, probe_upstream
from app.catalog.routing import Catalog
from app.catalog.secret_rotation import rotate_secrets as rotate_in
from app.catalog.upstreams import UpstreamRoutes, create_upstream, get_upstream, list_upstreams, update_upstream
from app.catalog.vault import Vault
from app.cli.database import on_database, pages
from app.cli.options import AsJson, Limit, Tags, given
from app.cli.output import note, print_json, print_record, print_table, record
from app.cli.upstream_options import (
    Auth,
    BaseUrl,
    ClientGone,
    IsLocal,
    KeyPrompt,
    KeyStdin,
    Priority,
    Protocols,
    Routes,
    StreamUsage,
    Weight,
    Which,
    routes_of,
    secrets_given,
)
from app.database import Database
from app.errors import NotFound, StartupError
from app.runtime.secrets_file import NAME, read_secrets
from app.settings import Settings

cli = typer.Typer(add_completion=False, no_args_is_help=True, help="Upstreams: where calls go.")
T = TypeVar("T")

EVERY = 1_000_000
"""More upstreams than anybody has."""


@cli.command()
def add(
    name: Annotated[str, typer.Argument(help="Unique.")],
    base_url: Annotated[str, typer.Argument(help="As SDKs take it (https://host/v1), or the bare host.")],
    model: Routes = None,
    api_key_stdin: KeyStdin = False,
    api_key_prompt: KeyPrompt = False,
    auth: Auth = None,
    is_local: IsLocal = None,
    stream_usage: StreamUsage = None,
    client_gone: ClientGone = None,
    tags: Tags = None,
    protocols: Protocols = None,
    priority: Priority = None,
    weight: Weight = None,
    as_json: AsJson = False,
) -> None:
    """Add an upstream, that serves all models (`*`) unless some are named."""
    values = given(
        auth=auth,
        is_local=is_local,
        stream_usage=stream_usage,
        client_gone=client_gone,
        tags=tags,
        protocols=protocols,
        priority=priority,
        weight=weight,
    ) | secrets_given(from_stdin=api_key_stdin, asked=api_key_prompt)
    settings = _with_secret_key(Settings.load())

    async def work(session: AsyncSession) -> UpstreamRoutes:
        return await create_upstream(
            session,
            vault=Vault.of(settings),
            name=name,
            base_url=base_url,
            models=routes_of(model or ["*"]),
            allow_link_local=settings.allow_link_local_upstreams,
            **values,
        )

    print_record(_changed(settings, work), as_json=as_json)


@cli.command("list")
def list_(limit: Limit = 100, as_json: AsJson = False) -> None:
    """List upstreams, disabled ones too."""

    async def work(database: Database) -> tuple[list[UpstreamRoutes], bool]:
        async with database.reading() as session:
            return await pages(lambda size, cursor: list_upstreams(session, limit=size, cursor=cursor), limit=limit)

    upstreams, more = on_database(Settings.load(), work)
    if as_json:
        print_json([record(upstream) for upstream in upstreams])
    else:
        rows = [(one.id, one.name, one.base_url, _few(one.models), _state(one)) for one in upstreams]
        print_table(("Id", "Name", "Base URL", "Models", "State"), rows, empty="There are no upstreams: `upstreams add` makes one.")
    if more:
        note("There are more: --limit shows them.")


@cli.command()
def show(upstream: Which, as_json: AsJson = False) -> None:
    """Show an upstream. Of its secret, the last characters."""

    async def work(database: Database) -> UpstreamRoutes:
        async with database.reading() as session:
            return await _find(session, upstream)

    print_record(on_database(Settings.load(), work), as_json=as_json)


@cli.command("set")
def set_(
    upstream: Which,
    name: Annotated[str | None, typer.Option(help="Another name for it.")] = None,
    base_url: BaseUrl = None,
    model: Routes = None,
    api_key_stdin: KeyStdin = False,
    api_key_prompt: KeyPrompt = False,
    no_api_key: Annotated[bool, typer.Option("--no-api-key", help="Forget its secret.")] = False,
    auth: Auth = None,
    is_local: IsLocal = None,
    stream_usage: StreamUsage = None,
    client_gone: ClientGone = None,
    tags: Tags = None,
    protocols: Protocols = None,
    priority: Priority = None,
    weight: Weight = None,
    as_json: AsJson = False,
) -> None:
    """Change an upstream. What isn't named stays; `--model` replaces all that it serves."""
    changes = given(
        name=name,
        base_url=base_url,
        models=routes_of(model) if model else None,
        auth=auth,
        is_local=is_local,
        stream_usage=stream_usage,
        client_gone=client_gone,
        tags=tags,
        protocols=protocols,
        priority=priority,
        weight=weight,
    )
    changes |= {"api_key": None, "api_keys": None} if no_api_key else secrets_given(from_stdin=api_key_stdin, asked=api_key_prompt)
    if not changes:
        raise typer.BadParameter("name what to change: `upstreams set --help` lists it")
    _update(upstream, changes, as_json=as_json)


@cli.command()
def disable(upstream: Which, as_json: AsJson = False) -> None:
    """Let an upstream serve no new calls. Its name stays taken."""
    _update(upstream, {"disabled": True}, as_json=as_json)


@cli.command()
def enable(upstream: Which, as_json: AsJson = False) -> None:
    """Bring a disabled upstream back, with its routes and its secret."""
    _update(upstream, {"disabled": False}, as_json=as_json)


@cli.command("test")
def probe(
    upstream: Which,
    model: Annotated[str | None, typer.Option(help="As clients call it; by default the first that it serves by name.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a small real call to an upstream: 16 output tokens at most, which it may bill you for. Exit code 1: it failed."""
    settings = _with_secret_key(Settings.load())

    async def work(database: Database) -> ProbeResult:
        async with database.reading() as session:
            found = await _find(session, upstream)
        return await probe_upstream(
            database,
            vault=Vault.of(settings),
            upstream_id=found.id,
            model=model,
            allow_link_local=settings.allow_link_local_upstreams,
        )

    with Console(stderr=True).status("Asking the upstream"):
        result = on_database(settings, work)
    print_record(result, as_json=as_json)
    raise typer.Exit(0 if result.ok else 1)


@cli.command()
def models(upstream: Which, as_json: AsJson = False) -> None:
    """List what an upstream says that it offers, and what of that can be called and billed here."""
    settings = _with_secret_key(Settings.load())

    async def work(database: Database) -> list[Offered]:
        vault = Vault.of(settings)
        async with database.reading() as session:
            found = await _find(session, upstream)
        catalog = Catalog(database, vault)
        await catalog.refresh()
        return await offered_models(
            database,
            vault=vault,
            upstream_id=found.id,
            snapshot=catalog.snapshot,
            allow_link_local=settings.allow_link_local_upstreams,
        )

    with Console(stderr=True).status("Asking the upstream"):
        found = on_database(settings, work)
    if as_json:
        print_json([asdict(one) for one in found])
        return
    rows = [(one.id, one.name or "not served", "priced" if one.has_price else "no price") for one in found]
    print_table(("Its own name", "Clients call it", "Price"), rows, empty="It offers no models.")


@cli.command("rotate-secrets")
def rotate_secrets() -> None:
    """Encrypt all upstreams' secrets under SECRET_KEY that were under one of SECRET_KEY_OLD. Beside running proxies, too."""
    settings = _with_secret_key(Settings.load())
    rotated = _changed(settings, lambda session: rotate_in(session, vault=Vault.of(settings)))
    Console().print(f"Encrypted under SECRET_KEY: {rotated.written} secrets now, {rotated.current} before.")


def _with_secret_key(settings: Settings) -> Settings:
    """`SECRET_KEY` as set, else as the proxy has it from `DATA_DIR`. Raises `StartupError`."""
    if settings.secret_key is not None:
        return settings
    kept = read_secrets(settings.data_dir).get("SECRET_KEY")
    if kept is None:
        raise StartupError(f"SECRET_KEY is not set, and {settings.data_dir / NAME} has none: set the one that the proxies have")
    return settings.model_copy(update={"secret_key": SecretStr(kept)})


async def _find(session: AsyncSession, which: str) -> UpstreamRoutes:
    if which.isascii() and which.isdigit() and int(which) < 2**31:
        return await get_upstream(session, upstream_id=int(which))
    upstreams, _ = await pages(lambda size, cursor: list_upstreams(session, limit=size, cursor=cursor), limit=EVERY)
    found = next((one for one in upstreams if one.name == which), None)
    if found is None:
        raise NotFound(f"There is no upstream {which!r}. `upstreams list` shows their names.", code="upstream_not_found")
    return found


def _update(which: str, changes: dict[str, Any], *, as_json: bool) -> None:
    settings = _with_secret_key(Settings.load())

    async def work(session: AsyncSession) -> UpstreamRoutes:
        return await update_upstream(
            session,
            vault=Vault.of(settings),
            upstream_id=(await _find(session, which)).id,
            changes=changes,
            allow_link_local=settings.allow_link_local_upstreams,
        )

    print_record(_changed(settings, work), as_json=as_json)


def _changed(settings: Settings, change: Callable[[AsyncSession], Awaitable[T]]) -> T:
    async def work(database: Database) -> T:
        async with database.transaction() as session:
            return await change(session)

    return on_database(settings, work)


def _few(models: list[str] | dict[str, str]) -> str:
    names = list(models)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _state(upstream: UpstreamRoutes) -> str:
    return "disabled" if upstream.disabled else f"{'local, ' if upstream.is_local else ''}priority {upstream.priority}"
