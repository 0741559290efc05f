"""What a call cost, told in its own answer to a client that asks for it (`X-Include-Cost: 1`): `cost` in the usage that the
upstream reports, in `CURRENCY`. All other bytes stay as they are.

The amount is known once the call has ended, so the usage waits here until then: of a stream its last event that tells
usage, of any other answer the whole body. What is too large to wait, tells no usage, or can't be read, passes unchanged.
"""

import re
from collections.abc import Mapping
from decimal import Decimal

import msgspec

from app.billing.numbers import json_number
from app.gateway.protocols import Protocol
from app.gateway.protocols.reports import UNREADABLE

HEADER = b"x-include-cost"
LARGEST_BODY = 8 * 1024 * 1024
LARGEST_EVENTS = 1024 * 1024
"""Bytes that wait."""
_PLACES = (("usage",), ("usageMetadata",), ("response", "usage"))
"""Where protocols tell usage that is complete: OpenAI's and Anthropic's, Gemini's, the last event of `/v1/responses`."""
_BOUNDARY = re.compile(rb"\r\n\r\n|\n\n|\r\r|\n\r\n")
_DATA = re.compile(rb"^data: ?(.*?)\r?$", re.MULTILINE)
_objects = msgspec.json.Decoder(dict[str, msgspec.Raw])

Span = tuple[int, int]


def wants_cost(headers: Mapping[bytes, bytes]) -> bool:
    return headers.get(HEADER, b"").strip().lower() in (b"1", b"true", b"yes")


def with_cost(answer: bytes, cost: Decimal) -> bytes | None:
    """The JSON object with `cost` in its usage; None where it tells none."""
    for place in _PLACES:
        if span := _find(answer, place):
            start, end = span
            return answer[:start] + _set_cost(answer[start:end], json_number(cost)) + answer[end:]
    return None


class CostInBody:
    """`gave_up`: the body is too large, and passes as it comes."""

    def __init__(self) -> None:
        self._waiting = bytearray()
        self.gave_up = False

    def feed(self, passing: bytes) -> bytes:
        """What the client may have now."""
        if self.gave_up:
            return passing
        self._waiting += passing
        if len(self._waiting) <= LARGEST_BODY:
            return b""
        self.gave_up = True
        return self._take()

    def finish(self, rest: bytes, cost: Decimal | None) -> bytes:
        whole = self._take() + rest
        if cost is None or self.gave_up:
            return whole
        return with_cost(whole, cost) or whole

    def _take(self) -> bytes:
        waiting, self._waiting = bytes(self._waiting), bytearray()
        return waiting


class CostInStream:
    """Passes events on, but for the last that tells usage and what comes after it. An event with text after it shows that
    it wasn't the last."""

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol
        self._tail = b""
        self._waiting = b""
        self._gave_up = False

    def feed(self, passing: bytes) -> bytes:
        """What the client may have now. `passing`: what the meter lets through."""
        if self._gave_up:
            return passing
        events, self._tail = _whole_events(self._tail + passing)
        free = b"".join(self._let_through(event) for event in events)
        if len(self._waiting) + len(self._tail) > LARGEST_EVENTS:
            self._gave_up = True
            return free + self._take()
        return free

    def finish(self, rest: bytes, cost: Decimal | None) -> bytes:
        """What waited, and `rest`, which the meter held back."""
        waiting = self._take() + rest
        if cost is None or self._gave_up:
            return waiting
        events, tail = _whole_events(waiting)
        events.append(tail)
        for at in range(len(events) - 1, -1, -1):
            if told := _event_with_cost(events[at], cost):
                events[at] = told
                break
        return b"".join(events)

    def _let_through(self, event: bytes) -> bytes:
        if self._protocol.tells(event) and self._may_be_last(event):
            free, self._waiting = self._waiting, event
            return free
        if not self._waiting:
            return event
        self._waiting += event
        return self._take_events() if self._protocol.event_texts(event) else b""

    def _may_be_last(self, event: bytes) -> bool:
        told = self._protocol.read_event(event)
        return told.usage is not None and not told.is_partial

    def _take_events(self) -> bytes:
        waiting, self._waiting = self._waiting, b""
        return waiting

    def _take(self) -> bytes:
        tail, self._tail = self._tail, b""
        return self._take_events() + tail


def _whole_events(data: bytes) -> tuple[list[bytes], bytes]:
    events, start = [], 0
    for boundary in _BOUNDARY.finditer(data):
        events.append(data[start : boundary.end()])
        start = boundary.end()
    return events, data[start:]


def _event_with_cost(event: bytes, cost: Decimal) -> bytes | None:
    lines = list(_DATA.finditer(event))
    if len(lines) != 1 or (told := with_cost(lines[0][1], cost)) is None:
        return None
    start, end = lines[0].span(1)
    return event[:start] + told + event[end:]


def _find(answer: bytes, place: tuple[str, ...]) -> Span | None:
    """Where the object at this place is."""
    start, end = 0, len(answer)
    for name in place:
        span = _member(answer[start:end], name)
        if span is None:
            return None
        start, end = start + span[0], start + span[1]
    return (start, end) if answer[start : start + 1] == b"{" else None


def _member(text: bytes, name: str) -> Span | None:
    """Where the value of a member of a JSON object is. Its name may stand elsewhere in the text too: as often as it stands in
    the values before. None where it isn't there once, or is written with escapes."""
    try:
        members = _objects.decode(text)
    except UNREADABLE:
        return None
    if name not in members:
        return None
    named = re.compile(rb'"%s"\s*:\s*' % name.encode())
    counts = {member: len(named.findall(bytes(value))) for member, value in members.items()}
    found = list(named.finditer(text))
    if len(found) != sum(counts.values()) + 1:
        return None
    before = 0
    for member in members:
        if member == name:
            break
        before += counts[member]
    start = found[before].end()
    value = bytes(members[name])
    return (start, start + len(value)) if text.startswith(value, start) else None


def _set_cost(usage: bytes, cost: bytes) -> bytes:
    """An upstream's own `cost` is what it costs the operator: it gives way."""
    if span := _member(usage, "cost"):
        return usage[: span[0]] + cost + usage[span[1] :]
    comma = b"" if usage[1:-1].isspace() or usage == b"{}" else b","
    return usage[:-1] + comma + b'"cost":' + cost + b"}"
