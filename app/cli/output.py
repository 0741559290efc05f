"""What commands print: tables for people, JSON for programs, with the names that REST has."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sqlalchemy import RowMapping

from app.database import Base

_SECRETS = frozenset({"secret", "more_secrets"})
_RIGHT = frozenset({"Available", "Spent", "Amount", "Multiplier", "Context", "Output", "In", "Out", "Bill", "Id"})


def record(thing: object) -> dict[str, Any]:
    """A dataclass, a row of a table or a mapping, by field names."""
    if is_dataclass(thing) and not isinstance(thing, type):
        return asdict(thing)
    if isinstance(thing, Base):
        return {column.name: getattr(thing, column.name) for column in thing.__table__.columns if column.name not in _SECRETS}
    assert isinstance(thing, (Mapping, RowMapping))
    return dict(thing)


def print_json(thing: object) -> None:
    """Without rich, which would fold long lines."""
    sys.stdout.write(json.dumps(thing, default=json_value, indent=2, ensure_ascii=is_ascii()) + "\n")


def json_value(value: object) -> str:
    """Money as a decimal string, moments in UTC, as REST writes them."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return str(value)


def is_ascii() -> bool:
    """Whether JSON has to do without letters of its own, as standard output may not take them."""
    return not sys.stdout.encoding.lower().startswith("utf")


def print_record(thing: object, *, as_json: bool, **more: object) -> None:
    """Every field of one thing; people get those that are set."""
    fields = {**record(thing), **more}
    if as_json:
        print_json(fields)
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in fields.items():
        if value is not None and value is not False and value not in ([], {}):
            table.add_row(name, cell(value))
    Console(highlight=False).print(table)


def print_table(columns: Mapping[str, Sequence[object]] | Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """`empty`: what is said where there are no rows."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in _RIGHT else "left", overflow="fold", no_wrap=column.startswith("When"))
    for row in rows:
        table.add_row(*map(cell, row))
    Console(highlight=False).print(table if table.row_count else empty)


def cell(value: object) -> str:
    """Safe to print: names are what others have sent."""
    if isinstance(value, list) and not all(isinstance(inner, str) for inner in value):
        return "\n".join(map(cell, value))
    return plain(_text(value))


def _text(value: object) -> str:
    match value:
        case None:
            text = "-"
        case bool():
            text = "yes" if value else "no"
        case Decimal():
            text = money(value)
        case datetime():
            text = f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
        case list():
            text = ", ".join(value)
        case dict() if all(isinstance(inner, (str, int)) for inner in value.values()):
            text = ", ".join(f"{name}={inner}" for name, inner in value.items())
        case dict():
            text = json.dumps(value, default=json_value, ensure_ascii=False)
        case _:
            text = str(value)
    return text


def money(amount: Decimal) -> str:
    """All its decimals, at least two."""
    whole, _, decimals = f"{amount:f}".partition(".")
    return f"{whole}.{decimals.rstrip('0').ljust(2, '0')}"


def plain(text: str) -> str:
    """Without control characters, and without a meaning to rich."""
    return escape("".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text))


def note(line: str) -> None:
    """To people, beside what is printed for programs."""
    Console(stderr=True, highlight=False).print(line, soft_wrap=True)
