"""Calls that have ended, as those who count or log them are told: once their rows are committed, and a moment later, so that no
client waits for it.

What listeners raise is logged, and changes nothing of the calls.
"""

import asyncio
from collections.abc import Callable, Sequence
from decimal import Decimal
from itertools import chain
from typing import NamedTuple

import msgspec
import structlog
from sqlalchemy import ColumnElement, Text, cast, func

from app.ledger.outcome import Outcome
from app.models import ApiCallLog

log = structlog.get_logger(__name__)

TOLD_AFTER = 0.05
"""Seconds, in which more of them come together."""


class Attempt(msgspec.Struct):
    upstream_id: int | None = None
    status: int | None = None


class Facts(msgspec.Struct):
    """What is read of an entry: columns of the row by their names, and `cost`."""

    user_id: str = ""
    api_key_id: int | None = None
    model_name: str = ""
    api: str | None = None
    is_stream: bool | None = None
    upstream_id: int | None = None
    status: str = ""
    end_reason: str | None = None
    usage_source: str | None = None
    http_status: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    latency_ms: int | None = None
    first_token_ms: int | None = None
    flags: list[str] | None = None
    attempts: list[Attempt] | None = None
    cost: str = "0"


class Ended(NamedTuple):
    """`charge` None: it is the entry's cost. `is_new`: False where an orphan's row got its truth. `committed_at`: as
    `Carried.ended_at`; None where no client has waited for it."""

    outcome: Outcome
    charge: Decimal | None = None
    write_off: Decimal | None = None
    is_new: bool = True
    committed_at: float | None = None


Listener = Callable[[Sequence[tuple[Ended, Facts]]], None]
_decode = msgspec.json.Decoder(Facts).decode


class EndedCalls:
    """`listeners` are told of all, in the order in which they were committed."""

    def __init__(self) -> None:
        self.listeners: list[Listener] = []
        self._untold: list[Ended] = []

    def add(self, ended: Sequence[Ended]) -> None:
        if not self.listeners or not ended:
            return
        if not self._untold:
            asyncio.get_running_loop().call_later(TOLD_AFTER, self.tell)
        self._untold += ended

    def tell(self) -> None:
        """At once: for whoever asks for the counts, and at the end."""
        if not self._untold:
            return
        told = [(one, facts_of(one.outcome)) for one in self._untold]
        self._untold = []
        for listener in self.listeners:
            try:
                listener(told)
            except Exception:
                log.exception("calls that have ended could not be counted or logged", calls=len(told))


def facts_of(outcome: Outcome) -> Facts:
    """None at all of an entry of another version that can't be read."""
    try:
        return _decode(outcome.entry)
    except msgspec.MsgspecError:
        return Facts(user_id=outcome.user_id)


def facts_of_row() -> ColumnElement[str]:
    """An entry made of a row that stands in the database."""
    names = [name for name in Facts.__struct_fields__ if name != "cost"]
    return cast(func.jsonb_build_object(*chain.from_iterable((name, getattr(ApiCallLog, name)) for name in names)), Text())
