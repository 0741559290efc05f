"""`billing-proxy serve`. What it runs is loaded when the settings are known to be right, so that a wrong one is told at once."""

import gc
from importlib import import_module
from typing import Annotated

import typer

from app.settings import Settings

cli = typer.Typer(add_completion=False)


@cli.command("serve")
def serve_command(
    host: Annotated[str | None, typer.Option(help="Listen on this address. Default: HOST, else 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Listen here. Default: PORT, else 8000.")] = None,
) -> None:
    """Start the database (if DATABASE_URL is unset), migrate it, and serve."""
    settings = Settings.load(**{name: value for name, value in (("host", host), ("port", port)) if value is not None})
    gc.disable()  # what a start makes stays: looking through it takes a tenth of the start. The server turns it on again
    import_module("app.cli.start").serve(settings)
