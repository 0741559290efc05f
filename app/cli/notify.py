"""`billing-proxy notify`."""

import asyncio
from datetime import UTC, datetime

import typer
from rich.console import Console
from rich.markup import escape
from uuid_utils.compat import uuid7

from app.errors import StartupError
from app.notify.channels import NotSent, channels_of
from app.reports.outbox import Notice
from app.settings import Settings

cli = typer.Typer(add_completion=False, no_args_is_help=True, help="What operators are told without asking.")
TEST = Notice("test", "test", "This is a test: notifications arrive here.")


@cli.callback()
def notify() -> None:
    """What operators are told without asking."""


@cli.command()
def test() -> None:
    """Send a test by each way that is set (NOTIFY_WEBHOOK, NOTIFY_SMTP), and say how that went."""
    channels = channels_of(Settings.load())
    if not channels:
        raise StartupError("nobody is told anything: set NOTIFY_WEBHOOK or NOTIFY_SMTP")
    failed = False
    for name, channel in channels.items():
        try:
            asyncio.run(channel.send(TEST, id=str(uuid7()), at=datetime.now(UTC)))
            Console().print(f"{name}: sent")
        except NotSent as reason:
            failed = True
            Console(stderr=True).print(f"{name}: {escape(str(reason))}", soft_wrap=True)
    if failed:
        raise typer.Exit(1)
