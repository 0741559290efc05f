"""The command line, `billing-proxy`. Each command imports what it runs when it runs: help, and the line that says what is
wrong with a setting, come at once."""

import gc
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from app.errors import ProxyError, StartupError
from app.settings import Settings

cli = typer.Typer(no_args_is_help=True, help="The aigcspace billing proxy: meters, bills and logs every model call exactly once.")
demo = typer.Typer(no_args_is_help=True, help="The demo that a first start makes.")
cli.add_typer(demo, name="demo")
prices = typer.Typer(no_args_is_help=True, help="What calls cost.")
cli.add_typer(prices, name="prices")
upstreams = typer.Typer(no_args_is_help=True, help="Upstreams.")
cli.add_typer(upstreams, name="upstreams")
console = Console()

Port = Annotated[int | None, typer.Option(min=1, max=65535, help="Listen here. Default: PORT, else 8000.")]
Pattern = Annotated[str, typer.Option("--model", help="One model, or all whose names begin so: `gpt-4o*`.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Host = Annotated[str | None, typer.Option(help="Listen on this address. Default: HOST, else 127.0.0.1.")]


@cli.command("serve")
def serve_command(host: Host = None, port: Port = None) -> None:
    """Start the database (if DATABASE_URL is unset), migrate it, and serve."""
    settings = Settings.load(**{name: value for name, value in (("host", host), ("port", port)) if value is not None})
    gc.disable()  # what a start makes stays: looking through it takes a tenth of the start. The server turns it on again
    from app.cli.serve import serve

    serve(settings)


@cli.command()
def migrate() -> None:
    """Bring the database to the version of this program, also while a proxy runs on it."""
    settings = Settings.load()
    from app.cli.database import database_beside_proxy
    from app.runtime.migrations import upgrade
    from app.runtime.platform_keys import PlatformKeys

    with database_beside_proxy(settings, may_make=True) as url:
        upgrade(url, platform_keys=PlatformKeys.of(settings))
    console.print("The database is up to date.")


@cli.command()
def audit(as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False) -> None:
    """Prove the books, also while the proxy runs. Exit code 0: right, 1: differences, 2: could not be audited."""
    from app.cli.audit import audit_books

    raise typer.Exit(audit_books(as_json=as_json))


@demo.command("remove")
def demo_remove() -> None:
    """Take the demo away: its upstream, model and price. Its user is disabled; rows and credit entries stay."""
    settings = Settings.load()
    from app.cli.demo import remove

    console.print("The demo is gone." if remove(settings) else "There is no demo here.")


@prices.command("sync")
def prices_sync(
    provider: Annotated[
        list[str] | None, typer.Option(help="Of this provider, all that it has; may be repeated. Default: what your upstreams serve.")
    ] = None,
    model: Pattern = "*",
    prefix: Annotated[str, typer.Option(help="Put before the catalogue's names, as in `openai/` for a relay.")] = "",
    rate: Annotated[str | None, typer.Option(help="What a US dollar costs in CURRENCY.")] = None,
    markup: Annotated[str | None, typer.Option(help="Multiplies all rates: 1.2 adds a fifth.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Also prices and limits that an operator has set.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Apply without asking.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Seed and refresh prices and context sizes from the public list prices of the installed catalogue, genai-prices."""
    settings = Settings.load()
    from app.cli.prices import Sync, sync

    asked = Sync(provider or [], model, prefix, rate, markup, overwrite, yes, dry_run, as_json)
    raise typer.Exit(sync(settings, asked))


@prices.command("list")
def prices_list(model: Pattern = "*", as_json: AsJson = False) -> None:
    """List the prices that are in force now."""
    settings = Settings.load()
    from app.cli.prices import show

    show(settings, pattern=model, as_json=as_json)


@prices.command("set")
def prices_set(
    model: Annotated[str, typer.Argument(help="Its name, as clients call it.")],
    rates: Annotated[list[str], typer.Argument(metavar="METER=RATE...", help="Such as input=0.15 output=0.6.")],
) -> None:
    """Set a model's price, from now on."""
    settings = Settings.load()
    from app.cli.prices import set_one

    set_one(settings, model=model, rates=rates)


@upstreams.command("rotate-secrets")
def upstreams_rotate_secrets() -> None:
    """Encrypt all upstreams' secrets under SECRET_KEY that were under one of SECRET_KEY_OLD. Beside running proxies, too."""
    settings = Settings.load()
    from app.cli.upstreams import rotate_secrets

    rotated = rotate_secrets(settings)
    console.print(f"Encrypted under SECRET_KEY: {rotated.written} secrets now, {rotated.current} before.")


def main() -> None:
    try:
        cli()
    except (StartupError, ProxyError) as failed:
        line = escape(" ".join(str(failed).split()))
        Console(stderr=True).print(f"[bold red]billing-proxy:[/] {line}", soft_wrap=True, highlight=False)
        sys.exit(1)
