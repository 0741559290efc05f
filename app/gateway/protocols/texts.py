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
    """The JSON objects in the data of a stream's events, each on a line of its own; what can't be read is left out."""
    found = []
    for line in events.splitlines():
        if line.startswith(b"data:"):
            try:
                told = _values.decode(line[5:])
            except UNREADABLE:
                continue
            if isinstance(told, dict):
                found.append(told)
    return found


def texts(value: object, silent: Collection[str]) -> list[str]:
    """Every string in a JSON value, but for the fields whose text no tokenizer sees as it stands."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [text for item in value for text in texts(item, silent)]
    if isinstance(value, dict):
        return [text for name, item in value.items() if name not in silent for text in texts(item, silent)]
    return []
