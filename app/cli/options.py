"""Options that several commands share, and how their words are read. What a value may be, the catalog decides.

`none` lifts a limit: `--rpm none`.
"""

from collections.abc import Callable
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer

from app.billing.numbers import NUMBER
from app.catalog.checks import FIRST_MOMENT, LAST_MOMENT

LIFTED = object()
"""What `none` means."""


def given(**options: Any) -> dict[str, Any]:
    """Those that were given; None where one is to be lifted."""
    return {name: None if value is LIFTED else value for name, value in options.items() if value is not None}


def _or_none(read: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda text: LIFTED if text == "none" else read(text)


def whole(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise typer.BadParameter(f"{text!r} is no whole number")
    return int(text)


def decimal(text: str) -> Decimal:
    if not NUMBER.fullmatch(text.strip()):
        raise typer.BadParameter(f"{text!r} is no decimal number, such as 12.50")
    return Decimal(text)


def moment(text: str) -> datetime:
    """ISO 8601; without a zone it is UTC."""
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no moment, such as 2030-01-01T12:00:00Z") from None
    aware = read.replace(tzinfo=UTC) if read.tzinfo is None else read
    if not FIRST_MOMENT <= aware <= LAST_MOMENT:  # before it is converted, which overflows beyond
        raise typer.BadParameter(f"{text!r} must lie from {FIRST_MOMENT:%Y-%m-%d} to {LAST_MOMENT:%Y-%m-%d}")
    return aware.astimezone(UTC)


def directory(text: str) -> Path:
    """One that is named: `""` is what a variable holds that isn't set, and no name of the directory one stands in."""
    if not text.strip():
        raise typer.BadParameter("name a directory; `.` is the one you are in")
    return Path(text)


def day(text: str) -> datetime:
    """Its beginning, without a zone."""
    try:
        return datetime.combine(date.fromisoformat(text), time())
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no day, such as 2030-01-31") from None


def words(text: str) -> list[str]:
    """Separated by commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def one_of(*choices: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in choices:
            raise typer.BadParameter(f"{text!r} is none of {', '.join(choices)}")
        return text

    return read


def offering(*choices: str) -> Callable[[], list[str]]:
    """For the completion of a shell."""
    return lambda: list(choices)


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, with the names that REST has.")]
Limit = Annotated[int, typer.Option("--limit", min=1, help="How many at most.")]
Name = Annotated[str | None, typer.Option(help="For people.")]
NewName = Annotated[Any, typer.Option("--name", parser=_or_none(str), metavar="NAME|none", help="For people.")]
Group = Annotated[Any, typer.Option("--group", parser=_or_none(str), metavar="NAME|none", help="Whose prices, models and limits hold.")]
Rpm = Annotated[Any, typer.Option("--rpm", parser=_or_none(whole), metavar="N|none", help="Requests a minute.")]
Tpm = Annotated[Any, typer.Option("--tpm", parser=_or_none(whole), metavar="N|none", help="Tokens a minute.")]
MaxConcurrency = Annotated[Any, typer.Option("--max-concurrency", parser=_or_none(whole), metavar="N|none", help="Calls in flight.")]
DailyLimit = Annotated[
    Any, typer.Option("--daily-limit", parser=_or_none(decimal), metavar="MONEY|none", help="What may be spent in a day.")
]
MonthlyLimit = Annotated[
    Any, typer.Option("--monthly-limit", parser=_or_none(decimal), metavar="MONEY|none", help="What may be spent in a month.")
]
SpendLimit = Annotated[
    Any, typer.Option("--spend-limit", parser=_or_none(decimal), metavar="MONEY|none", help="What may be spent in total.")
]
Models = Annotated[Any, typer.Option("--models", parser=_or_none(words), metavar="A,B*|none", help="The models that may be used.")]
ExpiresAt = Annotated[Any, typer.Option("--expires-at", parser=_or_none(moment), metavar="TIME|none", help="Such as 2030-01-01T12:00:00Z.")]
AllowedIps = Annotated[
    Any, typer.Option("--allowed-ips", parser=_or_none(words), metavar="A,B/8|none", help="Addresses and networks to call from.")
]
Tags = Annotated[Any, typer.Option("--tags", parser=_or_none(words), metavar="A,B|none", help="By which groups choose upstreams.")]
Tokens = Annotated[Any, typer.Option(parser=_or_none(whole), metavar="N|none")]
