"""Finding a provider's report of usage in an answer, whole or in part. What the report means is each protocol's to say."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeGuard

import msgspec

from app.billing.service_tier import LONGEST_NAME, tier_named
from app.billing.usage import LARGEST_COUNT, Usage

LARGEST_REPORT = 8192
"""Bytes of a report that is looked for in an answer of which only the end was kept."""

_objects = msgspec.json.Decoder(dict[str, msgspec.Raw])
_values = msgspec.json.Decoder()
_SERVICE_TIER = re.compile(rb'"service_tier"\s*:\s*"([^"\\]{0,%d})"' % LONGEST_NAME)
UNREADABLE = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)


def usage_in(answer: bytes, field: str, read: Callable[[object], Usage | None]) -> Usage | None:
    """What `read` makes of the answer's `field`, or, where the answer is not whole, of the last such field in it."""
    try:
        return read(_values.decode(_objects.decode(answer).get(field, b"null")))
    except UNREADABLE:
        pass
    for match in reversed(list(re.finditer(rb'"%s"\s*:\s*(?=\{)' % field.encode(), answer))):
        end = _end_of_object(answer, match.end())
        if end and (usage := read(_values.decode(answer[match.end() : end]))):
            return usage
    return None


def usage_at_tier(answer: bytes, field: str, read: Callable[[object], Usage | None]) -> Usage | None:
    """As `usage_in`, with the `service_tier` that stands beside the field. Of an answer that is not whole the tier is taken
    where all that it says of one agrees: clients' own metadata may be in it too."""
    try:
        told = _objects.decode(answer)
        return at_tier(read(_values.decode(told.get(field, b"null"))), _values.decode(told.get("service_tier", b"null")))
    except UNREADABLE:
        tiers = set(_SERVICE_TIER.findall(answer))
        return at_tier(usage_in(answer, field, read), tiers.pop().decode("utf-8", "replace") if len(tiers) == 1 else None)


def at_tier(usage: Usage | None, reported: object) -> Usage | None:
    """The usage of a call that ran at the tier that its answer tells."""
    tier = tier_named(reported)
    return usage if usage is None or tier is None else replace(usage, service_tier=tier)


def is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_COUNT


def count(value: object) -> int:
    """0 where it is none: parts that can't be true are no reason to disbelieve the whole."""
    return value if is_count(value) else 0


def object_of(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def objects_in(listed: object) -> list[dict[str, Any]]:
    """Those in a list; none where it is none."""
    return [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []


def _end_of_object(text: bytes, start: int) -> int | None:
    """Where the JSON object that starts at `start` ends, if the text holds it whole."""
    for end in range(start + 1, min(len(text), start + LARGEST_REPORT) + 1):
        if text[end - 1 : end] == b"}":
            try:
                _values.decode(text[start:end])
            except UNREADABLE:
                continue
            return end
    return None
