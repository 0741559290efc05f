"""`billing-proxy migrate`."""

import typer
from rich.console import Console

from app.cli.database import database_beside_proxy
from app.runtime.migrations import upgrade
from app.runtime.platform_keys import PlatformKeys
from app.settings import Settings

cli = typer.Typer(add_completion=False)


@cli.command()
def migrate() -> None:
    """Bring the database to the version of this program, also while a proxy runs on it."""
    settings = Settings.load()
    with database_beside_proxy(settings, may_make=True) as url:
        upgrade(url, platform_keys=PlatformKeys.of(settings))
    Console().print("The database is up to date.")
