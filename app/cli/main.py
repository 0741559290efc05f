"""The command line, `billing-proxy`. Each command is a module of its own, which is imported when it is asked for: help, and
the completion of names, come at once.

Exit codes: 0, done; 1, refused, with the reason and what to do in one line on standard error; 2, wrong usage.
"""

import gc
import sys
from importlib import import_module
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from app.cli.standard_output import OutputLostError, guarded
from app.errors import ProxyError, StartupError

COMMANDS = {
    "serve": "Start the database (if DATABASE_URL is unset), migrate it, and serve.",
    "migrate": "Bring the database to the version of this program.",
    "doctor": "Look at everything that a proxy needs, and say what to do.",
    "audit": "Prove the books.",
    "users": "Users and their accounts.",
    "keys": "Keys that users call with.",
    "credits": "Money paid in, or taken back.",
    "groups": "Groups: what calls of their users cost, and may do.",
    "upstreams": "Upstreams: where calls go.",
    "models": "Limits of models.",
    "prices": "What calls cost.",
    "logs": "The calls that were made.",
    "notify": "What operators are told without asking.",
    "import": "Take over users, keys and prices of LiteLLM or new-api.",
    "demo": "The demo that a first start makes.",
}
"""Each is `cli` in the module `app.cli.<name>`, or in the one that is named here."""
_MODULES = {"import": "moving"}


class _OnDemand(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> TyperCommand | TyperGroup | None:
        """For lists of commands, a name and a line of help do."""
        loaded = self.commands.get(cmd_name)
        if isinstance(loaded, (TyperCommand, TyperGroup)):
            return loaded
        return TyperCommand(cmd_name, help=COMMANDS[cmd_name]) if cmd_name in COMMANDS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] in COMMANDS:
            self.commands[args[0]] = loaded(args[0])
        return super().resolve_command(ctx, args)


def loaded(name: str) -> TyperCommand | TyperGroup:
    gc.disable()  # what is imported stays: looking through it again and again takes a tenth of the time
    module = import_module(f"app.cli.{_MODULES.get(name, name)}")
    gc.enable()
    command = get_command(module.cli)
    assert isinstance(command, (TyperCommand, TyperGroup))
    return command


def _version(wanted: bool) -> None:
    if wanted:
        metadata = import_module("importlib.metadata")
        typer.echo(metadata.version("aigcspace-billing-proxy"))
        raise typer.Exit


cli = typer.Typer(cls=_OnDemand, no_args_is_help=True)


@cli.callback()
def root(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """The aigcspace billing proxy: meters, bills and logs every model call exactly once."""


def main() -> None:
    try:
        with guarded():
            cli()
    except (StartupError, ProxyError) as failed:
        if not (isinstance(failed, OutputLostError) and failed.unread):
            line = escape(" ".join(str(failed).split()))
            Console(stderr=True).print(f"[bold red]billing-proxy:[/] {line}", soft_wrap=True, highlight=False)
        sys.exit(1)
