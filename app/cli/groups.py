"""`billing-proxy groups`."""

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from sqlalchemy.ext.asyncio import AsyncSession

from app.catalog.groups import create_group, delete_group, get_group, list_groups, update_group
from app.cli.database import on_database, pages
from app.cli.options import (
    LIFTED,
    AsJson,
    DailyLimit,
    Limit,
    MaxConcurrency,
    Models,
    MonthlyLimit,
    Rpm,
    Tags,
    Tpm,
    decimal,
    given,
)
from app.cli.output import money, note, plain, print_json, print_record, print_table, record
from app.database import Database
from app.models import SpendGroup
from app.settings import Settings

cli = typer.Typer(add_completion=False, no_args_is_help=True, help="Groups: what calls of their users cost, and may do.")
T = TypeVar("T")

GroupName = Annotated[str, typer.Argument(metavar="NAME", help="The group's name.")]
Multiplier = Annotated[Any, typer.Option("--multiplier", parser=decimal, metavar="X", help="Of all prices: 0.8 is a fifth off.")]


def _multiplier_of(text: str) -> Any:
    if text == "none":
        return LIFTED
    model, equals, multiplier = text.rpartition("=")
    if not equals:
        raise typer.BadParameter("write it as MODEL=X, as in gpt-5*=1.2")
    return model, decimal(multiplier)


ModelMultipliers = Annotated[
    list[Any] | None,
    typer.Option("--model-multiplier", parser=_multiplier_of, metavar="MODEL=X|none", help="In its place for some models; repeat it."),
]


@cli.command()
def add(
    name: GroupName,
    multiplier: Multiplier = None,
    model_multipliers: ModelMultipliers = None,
    models: Models = None,
    upstream_tags: Tags = None,
    rpm: Rpm = None,
    tpm: Tpm = None,
    max_concurrency: MaxConcurrency = None,
    daily_limit: DailyLimit = None,
    monthly_limit: MonthlyLimit = None,
    as_json: AsJson = False,
) -> None:
    """Make a group. `users set USER --group NAME` puts a user into it."""
    values = given(
        multiplier=multiplier,
        model_multipliers=_by_model(model_multipliers),
        models=models,
        upstream_tags=upstream_tags,
        rpm=rpm,
        tpm=tpm,
        max_concurrency=max_concurrency,
        daily_limit=daily_limit,
        monthly_limit=monthly_limit,
    )
    print_record(_changed(lambda session: create_group(session, name=name, values=values)), as_json=as_json)


@cli.command("list")
def list_(limit: Limit = 100, as_json: AsJson = False) -> None:
    """List groups by name."""

    async def work(database: Database) -> tuple[list[SpendGroup], bool]:
        async with database.reading() as session:
            return await pages(lambda size, cursor: list_groups(session, limit=size, cursor=cursor), limit=limit)

    groups, more = on_database(Settings.load(), work)
    if as_json:
        print_json([record(group) for group in groups])
    else:
        rows = [(group.name, group.multiplier, group.models or "all", group.upstream_tags or "all", _limits(group)) for group in groups]
        print_table(("Name", "Multiplier", "Models", "Upstreams", "Limits"), rows, empty="There are no groups: `groups add` makes one.")
    if more:
        note("There are more: --limit shows them.")


@cli.command()
def show(name: GroupName, as_json: AsJson = False) -> None:
    """Show a group."""

    async def work(database: Database) -> SpendGroup:
        async with database.reading() as session:
            return await get_group(session, name=name)

    print_record(on_database(Settings.load(), work), as_json=as_json)


@cli.command("set")
def set_(
    name: GroupName,
    new_name: Annotated[str | None, typer.Option("--name", help="Another name for it.")] = None,
    multiplier: Multiplier = None,
    model_multipliers: ModelMultipliers = None,
    models: Models = None,
    upstream_tags: Tags = None,
    rpm: Rpm = None,
    tpm: Tpm = None,
    max_concurrency: MaxConcurrency = None,
    daily_limit: DailyLimit = None,
    monthly_limit: MonthlyLimit = None,
    as_json: AsJson = False,
) -> None:
    """Change a group. What isn't named stays; `none` lifts a limit. Calls in flight are billed as they were held."""
    changes = given(
        name=new_name,
        multiplier=multiplier,
        model_multipliers=_by_model(model_multipliers),
        models=models,
        upstream_tags=upstream_tags,
        rpm=rpm,
        tpm=tpm,
        max_concurrency=max_concurrency,
        daily_limit=daily_limit,
        monthly_limit=monthly_limit,
    )
    if not changes:
        raise typer.BadParameter("name what to change: `groups set --help` lists it")
    print_record(_changed(lambda session: update_group(session, name=name, changes=changes)), as_json=as_json)


@cli.command()
def remove(name: GroupName) -> None:
    """Delete a group in which nobody is."""
    _changed(lambda session: delete_group(session, name=name))
    Console(highlight=False).print(f"The group {plain(name)} is gone.", soft_wrap=True)


def _by_model(multipliers: list[Any] | None) -> Any:
    if not multipliers:
        return None
    return LIFTED if LIFTED in multipliers else dict(multipliers)


def _changed(change: Callable[[AsyncSession], Awaitable[T]]) -> T:
    async def work(database: Database) -> T:
        async with database.transaction() as session:
            return await change(session)

    return on_database(Settings.load(), work)


def _limits(group: SpendGroup) -> dict[str, str]:
    limits = {name: getattr(group, name) for name in ("rpm", "tpm", "max_concurrency", "daily_limit", "monthly_limit")}
    return {name: money(limit) if isinstance(limit, Decimal) else str(limit) for name, limit in limits.items() if limit is not None}
