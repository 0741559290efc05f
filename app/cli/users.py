"""`billing-proxy users`."""

from decimal import Decimal
from typing import Annotated, Any

import typer

from app.catalog.users import UserAccount, create_user, get_user, list_users, update_user
from app.cli.database import on_database, pages
from app.cli.options import (
    AsJson,
    DailyLimit,
    Group,
    Limit,
    MaxConcurrency,
    MonthlyLimit,
    Name,
    NewName,
    Rpm,
    Tpm,
    decimal,
    given,
)
from app.cli.output import note, print_json, print_record, print_table, record
from app.database import Database
from app.settings import Settings

cli = typer.Typer(add_completion=False, no_args_is_help=True, help="Users and their accounts.")

UserId = Annotated[str, typer.Argument(help="The user's id.")]
CreditLimit = Annotated[Any, typer.Option("--credit-limit", parser=decimal, metavar="MONEY", help="How far the account may go below zero.")]


@cli.command()
def add(
    user_id: UserId,
    name: Name = None,
    credit_limit: CreditLimit = None,
    group: Group = None,
    rpm: Rpm = None,
    tpm: Tpm = None,
    max_concurrency: MaxConcurrency = None,
    daily_limit: DailyLimit = None,
    monthly_limit: MonthlyLimit = None,
    as_json: AsJson = False,
) -> None:
    """Make a user with an account, which opens with DEFAULT_CREDIT."""
    settings = Settings.load()
    policy = given(group=group, rpm=rpm, tpm=tpm, max_concurrency=max_concurrency, daily_limit=daily_limit, monthly_limit=monthly_limit)

    async def work(database: Database) -> UserAccount:
        async with database.transaction() as session:
            return await create_user(
                session,
                user_id=user_id,
                name=name,
                credit_limit=Decimal(0) if credit_limit is None else credit_limit,
                default_credit=settings.default_credit,
                policy=policy,
            )

    print_record(on_database(settings, work), as_json=as_json)


@cli.command("list")
def list_(limit: Limit = 100, as_json: AsJson = False) -> None:
    """List users by id, disabled ones too."""
    settings = Settings.load()

    async def work(database: Database) -> tuple[list[UserAccount], bool]:
        async with database.reading() as session:
            return await pages(
                lambda size, cursor: list_users(session, default_credit=settings.default_credit, limit=size, cursor=cursor), limit=limit
            )

    users, more = on_database(settings, work)
    if as_json:
        print_json([record(user) for user in users])
    else:
        rows = [(user.id, user.name, user.group, user.available, user.spent, _state(user)) for user in users]
        print_table(("User", "Name", "Group", "Available", "Spent", "State"), rows, empty="There are no users yet: `users add` makes one.")
    if more:
        note("There are more: --limit shows them.")


@cli.command()
def show(user_id: UserId, as_json: AsJson = False) -> None:
    """Show a user with balance, use and limits."""
    settings = Settings.load()

    async def work(database: Database) -> UserAccount:
        async with database.reading() as session:
            return await get_user(session, user_id=user_id, default_credit=settings.default_credit)

    print_record(on_database(settings, work), as_json=as_json)


@cli.command("set")
def set_(
    user_id: UserId,
    name: NewName = None,
    credit_limit: CreditLimit = None,
    group: Group = None,
    rpm: Rpm = None,
    tpm: Tpm = None,
    max_concurrency: MaxConcurrency = None,
    daily_limit: DailyLimit = None,
    monthly_limit: MonthlyLimit = None,
    as_json: AsJson = False,
) -> None:
    """Change a user. What isn't named stays; `none` lifts a limit."""
    changes = given(
        name=name,
        credit_limit=credit_limit,
        group=group,
        rpm=rpm,
        tpm=tpm,
        max_concurrency=max_concurrency,
        daily_limit=daily_limit,
        monthly_limit=monthly_limit,
    )
    if not changes:
        raise typer.BadParameter("name what to change: `users set --help` lists it")
    _change(user_id, changes, as_json=as_json)


@cli.command()
def disable(user_id: UserId, as_json: AsJson = False) -> None:
    """Refuse new calls of a user at once. Calls in flight are settled; rows, credit and keys stay."""
    _change(user_id, {"disabled": True}, as_json=as_json)


@cli.command()
def enable(user_id: UserId, as_json: AsJson = False) -> None:
    """Let a disabled user call again."""
    _change(user_id, {"disabled": False}, as_json=as_json)


def _change(user_id: str, changes: dict[str, Any], *, as_json: bool) -> None:
    settings = Settings.load()

    async def work(database: Database) -> UserAccount:
        async with database.transaction() as session:
            return await update_user(session, user_id=user_id, changes=changes, default_credit=settings.default_credit)

    print_record(on_database(settings, work), as_json=as_json)


def _state(user: UserAccount) -> str:
    if user.disabled:
        return "disabled"
    return "active" if user.account_opened_at else "no call yet"
