"""What became of a call, as it goes to the ledger, the spool and back: one JSON object, the call's row and its `cost`."""

import json
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple, Self
from uuid import UUID

import msgspec

from app.billing.price import LARGEST_CHARGE

LARGEST_INTEGER = 2**31 - 1
_COUNTS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
_KEPT = ("deferred", "was_deferred", "late")
"""Without these, a call that goes on in the background would end, and one that was archived be billed again."""
_WORDS = ("status", "end_reason", "usage_source", "api")


class _Names(msgspec.Struct):
    request_id: UUID
    user_id: str


def arrived_at(request_id: UUID) -> float:
    """Seconds since 1970, of the request's id (UUIDv7, RFC 9562)."""
    return (request_id.int >> 80) / 1000


class Carried(NamedTuple):
    """What is known of a call only to the process that has carried it. `admitted_in`: seconds until it went upstream; None: it never
    did. `ended_at`: of its answer, by this machine's clock that never goes back. `is_plain`: its row is new, and its charge its cost."""

    admitted_in: float | None
    ended_at: float
    is_plain: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    request_id: UUID
    user_id: str
    entry: bytes
    carried: Carried | None = None

    @classmethod
    def read(cls, entry: bytes) -> Self:
        """Of a record of the spool. Raises `ValueError` where it is none."""
        names = msgspec.json.decode(entry, type=_Names)
        return cls(names.request_id, names.user_id, entry)

    @property
    def began_at(self) -> float:
        """Seconds since 1970."""
        return arrived_at(self.request_id)

    def late(self) -> Self:
        """The same, for a call whose row may have been archived: see `settle.sql`."""
        return type(self)(self.request_id, self.user_id, self.entry.rstrip()[:-1] + b',"late":true}')

    def reduced(self, why: str) -> Self:
        """The same call with no more than what can't be wrong: whose it is, what it used and cost, how it ended. For an
        entry that the database rejects, so that one odd text never keeps a call from its row."""
        row = _object(self.entry)
        kept: dict[str, Any] = {name: row[name] for name in _WORDS if isinstance(row.get(name), str)}
        kept |= {name: _count(row.get(name)) for name in _COUNTS}
        kept |= {"status": "failed"} if kept.get("status") not in ("success", "failed") else {}
        key_id, model = row.get("api_key_id"), row.get("model_name")
        kept |= {
            "request_id": str(self.request_id),
            "user_id": self.user_id,
            "api_key_id": key_id if isinstance(key_id, int) else None,
            "model_name": _plain(model, 255) if isinstance(model, str) else "",
            "is_local": row.get("is_local") is True,
            "cost": _cost(row.get("cost")),
            "error_message": _plain(f"This row could not be stored as it was: {why}", 2000),
            "flags": ["reduced"],
        }
        kept |= {name: row[name] for name in _KEPT if name in row}
        return type(self)(self.request_id, self.user_id, msgspec.json.encode(kept))


def _object(entry: bytes) -> dict[str, Any]:
    """Read leniently: it takes half a character, and NaN."""
    try:
        row = json.loads(entry)
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_INTEGER else 0


def _cost(value: object) -> str:
    """As text; 0 where it is no sum of money: what can't be read can't be charged."""
    try:
        cost = Decimal(str(value))
    except InvalidOperation:
        return "0"
    return f"{cost:f}" if cost.is_finite() and 0 <= cost <= LARGEST_CHARGE else "0"


def _plain(text: str, longest: int) -> str:
    return text.encode("ascii", "replace").decode().replace("\x00", "?")[:longest]
