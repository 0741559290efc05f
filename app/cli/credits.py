"""`billing-proxy credits`."""

from typing import Annotated, Any

import typer

from app.cli.database import on_database, pages
from app.cli.options import AsJson, Limit, decimal
from app.cli.output import note as say
from app.cli.output import print_json, print_record, print_table, record
from app.database import Database
from app.ledger.credits import add_credit, list_credits
from app.models import CreditEntry
from app.settings import Settings

cli = typer.Typer(add_completion=False, no_args_is_help=True, help="Money paid in, or taken back.")

UserId = Annotated[str, typer.Argument(help="The user's id.")]


@cli.command(context_settings={"ignore_unknown_options": True})  # a negative amount looks like an option
def add(
    user_id: UserId,
    amount: Annotated[Any, typer.Argument(parser=decimal, metavar="AMOUNT", help="Such as 10 or 12.50; -5 takes credit back.")],
    note: Annotated[str | None, typer.Option(help="What for, as in `invoice 4711`.")] = None,
    idempotency_key: Annotated[str | None, typer.Option(help="Makes it safe to say this again: the first entry is what is shown.")] = None,
    as_json: AsJson = False,
) -> None:
    """Add credit to an account, or take it back."""
    settings = Settings.load()

    async def work(database: Database) -> CreditEntry:
        async with database.transaction() as session:
            return await add_credit(
                session,
                user_id=user_id,
                amount=amount,
                note=note,
                idempotency_key=idempotency_key,
                default_credit=settings.default_credit,
            )

    print_record(on_database(settings, work), as_json=as_json)


@cli.command("list")
def list_(user_id: UserId, limit: Limit = 100, as_json: AsJson = False) -> None:
    """List a user's entries, the newest first. Their sum is the account's credit."""

    async def work(database: Database) -> tuple[list[CreditEntry], bool]:
        async with database.reading() as session:
            return await pages(lambda size, cursor: list_credits(session, user_id=user_id, limit=size, cursor=cursor), limit=limit)

    entries, more = on_database(Settings.load(), work)
    if as_json:
        print_json([record(entry) for entry in entries])
    else:
        rows = [(entry.id, entry.created_at, entry.amount, entry.note) for entry in entries]
        print_table(("Id", "When (UTC)", "Amount", "Note"), rows, empty="Nothing was paid in yet: `credits add` does that.")
    if more:
        say("There are more: --limit shows them.")
