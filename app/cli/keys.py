"""`billing-proxy keys`. A key itself is printed once, when it is made or rotated; only its hash is kept."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar

import typer
from sqlalchemy.ext.asyncio import AsyncSession

from app.catalog.keys import Key, create_key, get_key, list_keys, rotate_key, update_key
from app.cli.database import on_database, pages
from app.cli.options import (
    AllowedIps,
    AsJson,
    DailyLimit,
    ExpiresAt,
    Group,
    Limit,
    MaxConcurrency,
    Models,
    MonthlyLimit,
    Name,
    NewName,
    Rpm,
    SpendLimit,
    Tpm,
    given,
    offering,
    one_of,
)
from app.cli.output import note, print_json, print_record, print_table, record
from app.cli.standard_output import OutputLostError, flush
from app.database import Database
from app.errors import StartupError
from app.settings import Settings

cli = typer.Typer(add_completion=False, no_args_is_help=True, help="Keys that users call with.")
T = TypeVar("T")

LONGEST_OVERLAP = 90 * 24 * 3600
"""Seconds, as over REST."""
KeyId = Annotated[int, typer.Argument(min=1, max=2**31 - 1, help="The key's id, as in `keys list`.")]
Scope = Annotated[
    Any,
    typer.Option(
        "--scope",
        parser=one_of("key", "account"),
        autocompletion=offering("key", "account"),
        metavar="key|account",
        help="Whose rows it sees in /logs.",
    ),
]


@cli.command()
def add(
    user_id: Annotated[str, typer.Argument(help="Whose key it is.")],
    name: Name = None,
    models: Models = None,
    expires_at: ExpiresAt = None,
    group: Group = None,
    spend_limit: SpendLimit = None,
    daily_limit: DailyLimit = None,
    monthly_limit: MonthlyLimit = None,
    rpm: Rpm = None,
    tpm: Tpm = None,
    max_concurrency: MaxConcurrency = None,
    allowed_ips: AllowedIps = None,
    scope: Scope = None,
    as_json: AsJson = False,
) -> None:
    """Make a key. It is shown this once."""
    policy = given(
        models=models,
        expires_at=expires_at,
        group=group,
        spend_limit=spend_limit,
        daily_limit=daily_limit,
        monthly_limit=monthly_limit,
        rpm=rpm,
        tpm=tpm,
        max_concurrency=max_concurrency,
        allowed_ips=allowed_ips,
        scope=scope,
    )
    key, secret = _changed(lambda session: create_key(session, user_id=user_id, name=name, policy=policy))
    _print_secret(key, secret, as_json=as_json)


@cli.command("list")
def list_(user: Annotated[str | None, typer.Option(help="Only this user's.")] = None, limit: Limit = 100, as_json: AsJson = False) -> None:
    """List keys, the newest first, disabled ones too."""

    async def work(database: Database) -> tuple[list[Key], bool]:
        async with database.reading() as session:
            return await pages(lambda size, cursor: list_keys(session, user_id=user, limit=size, cursor=cursor), limit=limit)

    keys, more = on_database(Settings.load(), work)
    if as_json:
        print_json([record(key) for key in keys])
    else:
        rows = [(key.id, key.user_id, key.name, key.key_prefix, key.spent, _state(key)) for key in keys]
        print_table(("Id", "User", "Name", "Begins", "Spent", "State"), rows, empty="There are no keys: `keys add USER` makes one.")
    if more:
        note("There are more: --limit shows them.")


@cli.command()
def show(key_id: KeyId, as_json: AsJson = False) -> None:
    """Show a key with its limits and use."""

    async def work(database: Database) -> Key:
        async with database.reading() as session:
            return await get_key(session, key_id=key_id)

    print_record(on_database(Settings.load(), work), as_json=as_json)


@cli.command("set")
def set_(
    key_id: KeyId,
    name: NewName = None,
    models: Models = None,
    expires_at: ExpiresAt = None,
    group: Group = None,
    spend_limit: SpendLimit = None,
    daily_limit: DailyLimit = None,
    monthly_limit: MonthlyLimit = None,
    rpm: Rpm = None,
    tpm: Tpm = None,
    max_concurrency: MaxConcurrency = None,
    allowed_ips: AllowedIps = None,
    scope: Scope = None,
    as_json: AsJson = False,
) -> None:
    """Change a key. What isn't named stays; `none` lifts a limit."""
    changes = given(
        name=name,
        models=models,
        expires_at=expires_at,
        group=group,
        spend_limit=spend_limit,
        daily_limit=daily_limit,
        monthly_limit=monthly_limit,
        rpm=rpm,
        tpm=tpm,
        max_concurrency=max_concurrency,
        allowed_ips=allowed_ips,
        scope=scope,
    )
    if not changes:
        raise typer.BadParameter("name what to change: `keys set --help` lists it")
    print_record(_changed(lambda session: update_key(session, key_id=key_id, changes=changes)), as_json=as_json)


@cli.command()
def rotate(
    key_id: KeyId,
    overlap: Annotated[int, typer.Option(min=0, max=LONGEST_OVERLAP, metavar="SECONDS", help="For how long the old secret works too.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Give a key a new secret, which is shown this once. Limits and use stay."""
    key, secret = _changed(lambda session: rotate_key(session, key_id=key_id, overlap=timedelta(seconds=overlap)))
    _print_secret(key, secret, as_json=as_json)


@cli.command()
def disable(key_id: KeyId, as_json: AsJson = False) -> None:
    """Refuse new calls with a key at once. Calls in flight are settled."""
    print_record(_changed(lambda session: update_key(session, key_id=key_id, changes={"disabled": True})), as_json=as_json)


@cli.command()
def enable(key_id: KeyId, as_json: AsJson = False) -> None:
    """Let a disabled key be used again."""
    print_record(_changed(lambda session: update_key(session, key_id=key_id, changes={"disabled": False})), as_json=as_json)


def _changed(change: Callable[[AsyncSession], Awaitable[T]]) -> T:
    async def work(database: Database) -> T:
        async with database.transaction() as session:
            return await change(session)

    return on_database(Settings.load(), work)


def _print_secret(key: Key, secret: str, *, as_json: bool) -> None:
    try:
        print_record(key, as_json=as_json, key=secret)
        flush()
    except OutputLostError as lost:
        again = f"Make another: billing-proxy keys rotate {key.id}"
        raise StartupError(f"the secret of the key {key.id} is new, and could not be shown ({lost.reason}). {again}") from lost
    if not as_json:
        note("Keep the `key`: it can't be shown again.")


def _state(key: Key) -> str:
    if key.disabled or key.expires_at is None:
        return "disabled" if key.disabled else "active"
    return f"{'until' if key.expires_at > datetime.now(UTC) else 'expired'} {key.expires_at:%Y-%m-%d}"
