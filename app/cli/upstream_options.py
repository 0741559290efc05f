"""Options of `billing-proxy upstreams`, and how its secrets are read: from standard input, or asked for."""

import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.prompt import Prompt

from app.cli.options import LIFTED, offering, one_of, words

AUTHS = ("auto", "bearer", "x-api-key", "api-key", "none")
STREAM_USAGES = ("inject", "native", "off")
CLIENT_GONE = ("cancel", "drain")
PROTOCOLS = ("openai", "anthropic", "gemini")

Which = Annotated[str, typer.Argument(metavar="UPSTREAM", help="Its id or its name.")]
BaseUrl = Annotated[str | None, typer.Option(help="As SDKs take it (https://host/v1), or the bare host.")]
Routes = Annotated[
    list[str] | None,
    typer.Option("--model", metavar="NAME[=THEIRS]", help="What it serves: a name, a prefix such as `openai/*`, or `*`. Repeat it."),
]
KeyStdin = Annotated[bool, typer.Option("--api-key-stdin", help="Read its secret from standard input, the first of several lines first.")]
KeyPrompt = Annotated[bool, typer.Option("--api-key-prompt", help="Ask for its secret.")]
Auth = Annotated[
    Any,
    typer.Option(
        "--auth", parser=one_of(*AUTHS), autocompletion=offering(*AUTHS), metavar="|".join(AUTHS), help="How it wants the secret."
    ),
]
IsLocal = Annotated[bool | None, typer.Option("--local/--remote", help="Written on the rows of its calls.")]
StreamUsage = Annotated[
    Any,
    typer.Option(
        "--stream-usage",
        parser=one_of(*STREAM_USAGES),
        autocompletion=offering(*STREAM_USAGES),
        metavar="|".join(STREAM_USAGES),
        help="How a stream's usage is had.",
    ),
]
ClientGone = Annotated[
    Any,
    typer.Option(
        "--client-gone",
        parser=one_of(*CLIENT_GONE),
        autocompletion=offering(*CLIENT_GONE),
        metavar="|".join(CLIENT_GONE),
        help="What becomes of a stream whose client leaves.",
    ),
]


def _protocols(text: str) -> Any:
    if text == "none":
        return LIFTED
    return [one_of(*PROTOCOLS)(word) for word in words(text)]


Protocols = Annotated[
    Any, typer.Option("--protocols", parser=_protocols, metavar="A,B|none", help=f"Of {', '.join(PROTOCOLS)}; by default any.")
]
Priority = Annotated[int | None, typer.Option(min=0, max=1000, help="Lower is tried first.")]
Weight = Annotated[int | None, typer.Option(min=1, max=1000, help="The share among those of equal priority.")]


def secrets_given(*, from_stdin: bool, asked: bool) -> dict[str, Any]:
    """Lines of standard input: the first secret, and more of the same account."""
    if asked:
        return {"api_key": Prompt.ask("The upstream's secret", password=True, console=Console(stderr=True)).strip()}
    if not from_stdin:
        return {}
    first, *more = [line.strip() for line in sys.stdin.read().splitlines() if line.strip()] or [""]
    if not first:
        raise typer.BadParameter("--api-key-stdin: nothing came on standard input")
    return {"api_key": first, **({"api_keys": more} if more else {})}


def routes_of(given_: list[str]) -> list[str] | dict[str, str | None]:
    if not any("=" in route for route in given_):
        return given_
    return {name: theirs or None for name, _, theirs in (route.partition("=") for route in given_)}
