"""What calls of the last days would have cost at other prices: rows' own counts under `app.billing`'s arithmetic.

The newest calls are counted first, `MOST_CALLS` of all models together and for about `LONGEST` seconds; the answer says
which. A charge that was cut at its hold, or written off, is compared as it was charged. What other models used within a call
stays as it was billed.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import DateTime, func, literal, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from app.billing.price import LARGEST_CHARGE, Price
from app.billing.usage import Usage
from app.database import sqlstate
from app.errors import UnacceptableValue
from app.models import ApiCallLog

MOST_CALLS = 20_000
CHUNK = 200
LONGEST = 5.0
"""Seconds that all may take, and that may pass until one of the database's answers comes."""
_CANCELLED = "57014"
"""The SQLSTATE of a statement that took too long."""
_TIER = "unpriced:service_tier:"
_COUNTS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")


@dataclass(slots=True)
class Previewed:
    """`counted_from`: the time of the oldest call that was counted. `is_complete`: it is all of the period."""

    model: str
    calls: int = 0
    charged: Decimal = Decimal(0)
    would_be: Decimal = Decimal(0)
    counted_from: datetime | None = None
    is_complete: bool = False

    @property
    def difference(self) -> Decimal:
        return self.would_be - self.charged


async def preview_prices(session: AsyncSession, prices: Sequence[Price], *, days: int, zone: str) -> list[Previewed]:
    """One for each price, in their order. Raises `UnacceptableValue` where calls are too long in being found."""
    deadline = time.monotonic() + LONGEST
    await session.execute(text(f"SET LOCAL statement_timeout = {int(LONGEST * 1000)}"))
    most = max(1, MOST_CALLS // len(prices))
    try:
        return [await _preview(session, price, days=days, zone=zone, most=most, deadline=deadline) for price in prices]
    except DBAPIError as error:
        if sqlstate(error) != _CANCELLED:
            raise
        raise UnacceptableValue("days: the calls of so many days take too long to be found; ask for fewer", code="too_long") from error


async def _preview(session: AsyncSession, price: Price, *, days: int, zone: str, most: int, deadline: float) -> Previewed:
    found = Previewed(price.model_name)
    if time.monotonic() > deadline:
        return found
    created_at = func.timezone(zone, ApiCallLog.created_at, type_=DateTime(timezone=True)).label("created_at")
    since = func.timezone(zone, func.clock_timestamp() - literal(timedelta(days=days)), type_=DateTime())
    terms = [ApiCallLog.price[name].astext.label(name) for name in ("multiplier", "service_tier")]
    columns = (*(getattr(ApiCallLog, name) for name in _COUNTS), ApiCallLog.charge, ApiCallLog.flags, ApiCallLog.line_items)
    query = (
        select(*columns, *terms, created_at)
        .where(ApiCallLog.model_name == price.model_name, ApiCallLog.created_at >= since, ApiCallLog.usage_source != "none")
        .order_by(ApiCallLog.created_at.desc())
        .limit(most + 1)
    )
    rows = await session.stream(query, execution_options={"yield_per": CHUNK})
    async for chunk in rows.mappings().partitions():
        if time.monotonic() > deadline:
            return found
        counted = chunk[: most - found.calls]
        found.charged += sum((row.charge or Decimal(0) for row in counted), Decimal(0))
        found.would_be += await asyncio.to_thread(_cost_of, price, counted)
        if counted:
            found.calls += len(counted)
            found.counted_from = counted[-1]["created_at"]
        if len(counted) < len(chunk):
            return found
    found.is_complete = True
    return found


def _cost_of(price: Price, rows: Sequence[Mapping[Any, Any]]) -> Decimal:
    return sum((would_cost(price, row) for row in rows), Decimal(0))


def would_cost(price: Price, row: Mapping[Any, Any]) -> Decimal:
    """What the call of a row would have cost. The tier at which it ran is with the row's price where that had rates for it,
    else among its flags."""
    factor = Decimal(row["multiplier"] or 1)
    told = next((flag.removeprefix(_TIER) for flag in row["flags"] or () if flag.startswith(_TIER)), None)
    items = row["line_items"]
    input_tokens, output_tokens, read, written, reasoning = (row[name] or 0 for name in _COUNTS)
    counts = Usage(input_tokens, output_tokens, read, written, reasoning_tokens=reasoning)
    own = [item for item in items or () if "model" not in item and item["meter"] != "request"]
    meters = {item["meter"]: item["quantity"] for item in own} if items else counts.meters()
    charge = price.charge(meters, input_tokens=counts.input_tokens, service_tier=row["service_tier"] or told, multiplier=factor)
    others = sum((Decimal(item["amount"]) for item in items or () if "model" in item), Decimal(0))
    return min(charge.amount + round(others * factor, 10), LARGEST_CHARGE)
