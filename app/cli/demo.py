"""`billing-proxy demo`."""

import typer
from rich.console import Console

from app.catalog.first_start import remove_demo
from app.cli.database import on_database
from app.database import Database
from app.settings import Settings

cli = typer.Typer(add_completion=False, no_args_is_help=True, help="The demo that a first start makes.")


@cli.callback()
def demo() -> None:
    """The demo that a first start makes."""


@cli.command()
def remove() -> None:
    """Take the demo away: its upstream, model and price. Its user is disabled; rows and credit entries stay."""

    async def work(database: Database) -> bool:
        async with database.transaction() as session:
            return await remove_demo(session)

    Console().print("The demo is gone." if on_database(Settings.load(), work) else "There is no demo here.")
