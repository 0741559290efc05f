"""The texts of requests and answers, for counting what nobody reported; and the data of a stream's events."""

from collections.abc import Collection
from typing import Any

import msgspec

from app.gateway.protocols.reports import UNREADABLE

_values = msgspec.json.Decoder()


def event_data(event: bytes) -> bytes:
    """The data of a server-sent event: its `data` lines, joined (WHATWG HTML, 9.2.6)."""
    lines = [line[5:].removeprefix(b" ") for line in event.splitlines() if line.startswith(b"data:")]
    return b"\n".join(lines)


def events_of(events: bytes) -> list[dict[str, Any]]:
    """The JSON objects in the data of a stream's events; what can't be read is left out."""
    found = []
    lines: list[bytes] = []
    for line in [*events.splitlines(), b""]:
        if line.startswith(b"data:"):
            lines.append(line[5:].removeprefix(b" "))
        elif not line and lines:
            try:
                told = _values.decode(b"\n".join(lines))
            except UNREADABLE:
                told = None
            if isinstance(told, dict):
                found.append(told)
            lines = []
    return found


def texts(value: object, silent: Collection[str]) -> list[str]:
    """Every string in a JSON value, but for the fields whose text no tokenizer sees as it stands. However deep it is nested."""
    found = []
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            found.append(part)
        elif isinstance(part, list):
            waiting += reversed(part)
        elif isinstance(part, dict):
            waiting += reversed([item for name, item in part.items() if name not in silent])
    return found
