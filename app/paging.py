"""Keyset paging: where every listing's cursors are written and read.

A cursor is opaque to clients: base64url of the listing's name and of the last key on the page. One that is not from
the same listing raises `UnacceptableValue`. Rows that arrive while a client pages are neither repeated nor do they
shift others out of sight, as an offset would.
"""

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from app.errors import UnacceptableValue

Row = TypeVar("Row")
Key = TypeVar("Key", int, str)

LARGEST_KEY = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """`next_cursor` None: this is the last page."""

    rows: list[Row]
    next_cursor: str | None


def encode(listing: str, key: int | str) -> str:
    text = json.dumps([listing, key], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(listing: str, cursor: str | None, kind: type[Key]) -> Key | None:
    """The key after which the page starts; None for the first page."""
    if cursor is None:
        return None
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        found = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, RecursionError):
        found = None
    match found:
        case [str() as name, key] if name == listing and type(key) is kind and _can_be_stored(key):
            return key
    raise no_cursor()


def no_cursor() -> UnacceptableValue:
    return UnacceptableValue(
        "cursor: this is no cursor of this listing. Send the `next_cursor` of the page before as it came, or none for the first page.",
        code="invalid_cursor",
    )


def cut(rows: Sequence[Row], *, limit: int, listing: str, key: Callable[[Row], int | str]) -> Page[Row]:
    """A page of `limit` rows from a query that asked for one row more."""
    page = list(rows[:limit])
    return Page(page, encode(listing, key(page[-1])) if len(rows) > limit else None)


def _can_be_stored(key: int | str) -> bool:
    if isinstance(key, int):
        return 0 <= key <= LARGEST_KEY
    return "\0" not in key and not any("\ud800" <= letter <= "\udfff" for letter in key)
