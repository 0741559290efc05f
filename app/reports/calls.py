"""The calls that were let through or refused, for operators and for the callers themselves.

`created_at` is stored without a zone, in `LOG_TIME_ZONE`; PostgreSQL converts it, and filters are converted the other
way, so that they can use its index.
"""

from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, DateTime, RowMapping, func, literal, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import NotFound
from app.models import ApiCallLog
from app.paging import LARGEST_KEY, Page, cut, decode

LISTING = "logs"
DETAIL_ONLY = frozenset({"price", "line_items", "attempts"})
OPERATORS_ONLY = frozenset({"upstream_cost"})

Call = RowMapping
"""The columns of `api_call_log` by name; `created_at` with its zone, in UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visibility:
    """Whose rows may be seen: everybody's where `user_id` is None, else the user's, or those of one of the user's keys."""

    user_id: str | None = None
    key_id: int | None = None


EVERYTHING = Visibility()


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFilters:
    """`created_from` is inclusive, `created_to` exclusive, both with a zone. None: not asked for."""

    user_id: str | None = None
    api_key_id: int | None = None
    model_name: str | None = None
    model_id: int | None = None
    is_local: bool | None = None
    status: str | None = None
    request_id: UUID | None = None
    request_ip: str | None = None
    api: str | None = None
    upstream_id: int | None = None
    usage_source: str | None = None
    end_reason: str | None = None
    end_user: str | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None
    min_bill: Decimal | None = None


_RANGES = frozenset({"created_from", "created_to", "min_bill"})


async def list_calls(
    session: AsyncSession, *, visibility: Visibility, filters: CallFilters, zone: str, limit: int, cursor: str | None
) -> Page[Call]:
    """Newest first, without what only `get_call` shows."""
    conditions = [*_visible(visibility), *_matching(filters, zone)]
    if (before := decode(LISTING, cursor, int)) is not None:
        conditions.append(ApiCallLog.id < before)
    query = (
        select(*_columns(zone, without=DETAIL_ONLY | _hidden(visibility)))
        .where(*conditions)
        .order_by(ApiCallLog.id.desc())
        .limit(limit + 1)
    )
    rows = (await session.execute(query)).mappings().all()
    return cut(rows, limit=limit, listing=LISTING, key=lambda row: row["id"])


async def get_call(session: AsyncSession, *, visibility: Visibility, call_id: str, zone: str) -> Call:
    """One call in full, by `request_id` or `id`. Raises `NotFound`, also for a call that isn't the caller's to see."""
    query = select(*_columns(zone, without=_hidden(visibility))).where(_identified(call_id), *_visible(visibility))
    row = (await session.execute(query)).mappings().one_or_none()
    if row is None:
        raise _not_found(call_id)
    return row


def _columns(zone: str, *, without: frozenset[str]) -> list[ColumnElement[Any]]:
    created_at = func.timezone(zone, ApiCallLog.created_at, type_=DateTime(timezone=True)).label("created_at")
    columns = [column for column in ApiCallLog.__table__.columns if column.name not in without]
    return [created_at if column.name == "created_at" else column for column in columns]


def _hidden(visibility: Visibility) -> frozenset[str]:
    return frozenset() if visibility == EVERYTHING else OPERATORS_ONLY


def _visible(visibility: Visibility) -> list[ColumnElement[bool]]:
    conditions = []
    if visibility.user_id is not None:
        conditions.append(ApiCallLog.user_id == visibility.user_id)
    if visibility.key_id is not None:
        conditions.append(ApiCallLog.api_key_id == visibility.key_id)
    return conditions


def _matching(filters: CallFilters, zone: str) -> list[ColumnElement[bool]]:
    asked = {field.name: getattr(filters, field.name) for field in fields(filters)}
    conditions = [getattr(ApiCallLog, name) == value for name, value in asked.items() if value is not None and name not in _RANGES]
    if filters.created_from is not None:
        conditions.append(ApiCallLog.created_at >= _stored(filters.created_from, zone))
    if filters.created_to is not None:
        conditions.append(ApiCallLog.created_at < _stored(filters.created_to, zone))
    if filters.min_bill is not None:
        conditions.append(ApiCallLog.bill >= filters.min_bill)
    return conditions


def _stored(moment: datetime, zone: str) -> ColumnElement[datetime]:
    return func.timezone(zone, literal(moment, DateTime(timezone=True)), type_=DateTime())


def _identified(call_id: str) -> ColumnElement[bool]:
    if call_id.isascii() and call_id.isdigit() and len(call_id) < 20 and int(call_id) <= LARGEST_KEY:
        return ApiCallLog.id == int(call_id)
    try:
        return ApiCallLog.request_id == UUID(call_id)
    except ValueError:
        raise _not_found(call_id) from None


def _not_found(call_id: str) -> NotFound:
    return NotFound(f"There is no call {call_id!r} that you may see. Give its `id` or its `request_id`.", code="call_not_found")
