"""The command line, `billing-proxy`."""

import asyncio
import sys
from contextlib import nullcontext
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from sqlalchemy.exc import DBAPIError

from app.catalog.first_start import remove_demo
from app.cli.audit import audit_books
from app.cli.serve import database_url, serve
from app.database import Database
from app.errors import ProxyError, StartupError
from app.runtime.migrations import reason, upgrade
from app.runtime.postgres import EmbeddedPostgres
from app.settings import Settings

cli = typer.Typer(no_args_is_help=True, help="The aigcspace billing proxy: meters, bills and logs every model call exactly once.")
demo = typer.Typer(no_args_is_help=True, help="The demo that a first start makes.")
cli.add_typer(demo, name="demo")
console = Console()

Port = Annotated[int | None, typer.Option(min=1, max=65535, help="Listen here. Default: PORT, else 8000.")]
Host = Annotated[str | None, typer.Option(help="Listen on this address. Default: HOST, else 127.0.0.1.")]


@cli.command("serve")
def serve_command(host: Host = None, port: Port = None) -> None:
    """Start the database (if DATABASE_URL is unset), migrate it, and serve."""
    serve(Settings.load(**{name: value for name, value in (("host", host), ("port", port)) if value is not None}))


@cli.command()
def migrate() -> None:
    """Bring the database to the version of this program."""
    with database_url(Settings.load()) as url:
        upgrade(url)
    console.print("The database is up to date.")


@cli.command()
def audit(as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False) -> None:
    """Prove the books, also while the proxy runs. Exit code 0: right, 1: differences, 2: could not be audited."""
    raise typer.Exit(audit_books(as_json=as_json))


@demo.command("remove")
def demo_remove() -> None:
    """Take the demo away: its upstream, model and price. Its user is disabled; rows and credit entries stay."""

    async def remove(url: str) -> bool:
        database = Database(url, pool_size=2)
        try:
            async with database.transaction() as session:
                return await remove_demo(session)
        except DBAPIError as error:
            raise StartupError(f"can't look for the demo: {reason(error)}; run `billing-proxy migrate` if that was never done") from error
        finally:
            await database.close()

    settings = Settings.load()
    running = None if settings.database_url else EmbeddedPostgres.url_of_running(settings.data_dir)
    with nullcontext(running) if running else database_url(settings) as url:
        removed = asyncio.run(remove(url))
    console.print("The demo is gone." if removed else "There is no demo here.")


def main() -> None:
    try:
        cli()
    except (StartupError, ProxyError) as failed:
        line = escape(" ".join(str(failed).split()))
        Console(stderr=True).print(f"[bold red]billing-proxy:[/] {line}", soft_wrap=True, highlight=False)
        sys.exit(1)
