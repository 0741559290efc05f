"""The calls that were let through or refused, for operators and for the callers themselves.

They are in the order of time, rows of one instant in that of their ids. `created_at` is stored without a zone, in `LOG_TIME_ZONE`;
PostgreSQL converts it, and filters are converted the other way, so that they can use its indexes.
"""

from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import ColumnElement, DateTime, RowMapping, Select, and_, func, literal, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import Executable
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import ClauseElement

from app.database import SCHEMA
from app.errors import NotFound
from app.models import ApiCallLog
from app.paging import LARGEST_KEY, Page, cut, decode, encode, no_cursor
from app.reports.horizon import final_before
from app.reports.window import window_of

Order = Literal["newest", "oldest"]
_LISTINGS = {"newest": "logs", "oldest": "logs, oldest first"}
DETAIL_ONLY = frozenset({"price", "line_items", "attempts"})
OPERATORS_ONLY = frozenset({"upstream_cost"})
STORED_AT = "stored_at"

Call = RowMapping
"""The columns of `api_call_log` by name; `created_at` with its zone, in UTC, and `STORED_AT` as it is stored."""

COUNTED = 8 * 2**20
"""Bytes of a table of calls, some 15,000 rows, that are counted within a few milliseconds."""
_SIZE = select(func.pg_relation_size(f"{SCHEMA}.{ApiCallLog.__tablename__}"))
PLANNED_ANEW = text("SET LOCAL plan_cache_mode = force_custom_plan")
"""A value decides which index serves: some values are of most rows, and of some there is none."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class PageAsked:
    """`limit`: rows. `cursor`: of the page before."""

    visibility: Visibility
    filters: CallFilters
    zone: str
    limit: int
    cursor: str | None = None
    order: Order = "newest"


async def list_calls(session: AsyncSession, asked: PageAsked) -> Page[Call]:
    """Without what only `get_call` shows. Oldest first, a listing ends where rows may still come in between."""
    rows = (await session.execute(await page_query(session, asked))).mappings().all()
    return cut(rows, limit=asked.limit, listing=_LISTINGS[asked.order], key=_key)


async def page_query(session: AsyncSession, asked: PageAsked) -> Select[Any]:
    """For this transaction. Finds one row more than asked for."""
    visibility, filters, zone, order = asked.visibility, asked.filters, asked.zone, asked.order
    conditions = matching(visibility, filters, zone)
    if (last := decode(_LISTINGS[order], asked.cursor, str)) is not None:
        conditions.append(_beyond(last, order))
    await session.execute(PLANNED_ANEW)
    if order == "oldest":
        conditions.append(ApiCallLog.created_at < await final_before(session, zone=zone))
    if (window := await window_of(session, _asked(visibility, filters))) is not None:  # after what was waited for
        conditions.append(ApiCallLog.created_at.between(window.since, window.until))
    return in_order(select(*columns_of(zone, without=DETAIL_ONLY | _hidden(visibility))).where(*conditions), order).limit(asked.limit + 1)


def cursor_after(call: Call, order: Order) -> str:
    """With which a listing goes on after the call, also where that was its last so far."""
    return encode(_LISTINGS[order], _key(call))


async def count_calls(session: AsyncSession, *, visibility: Visibility, filters: CallFilters, zone: str, exact: bool) -> tuple[int, bool]:
    """How many match, and whether that is exact. Where it needn't be, a small table is counted all the same; for another it is what the
    planner expects, by statistics that may be a day old."""
    conditions = matching(visibility, filters, zone)
    await session.execute(PLANNED_ANEW)
    if exact or (await session.execute(_SIZE)).scalar_one() <= COUNTED:
        return int((await session.execute(select(func.count()).select_from(ApiCallLog).where(*conditions))).scalar_one()), True
    plan = (await session.execute(Explain(select(ApiCallLog.id).where(*conditions)))).scalar_one()
    return int(plan[0]["Plan"]["Plan Rows"]), False


async def get_call(session: AsyncSession, *, visibility: Visibility, call_id: str, zone: str) -> Call:
    """One call in full, by `request_id` or `id`. Raises `NotFound`, also for a call that isn't the caller's to see."""
    query = select(*columns_of(zone, without=_hidden(visibility))).where(_identified(call_id), *_visible(visibility))
    row = (await session.execute(query)).mappings().one_or_none()
    if row is None:
        raise _not_found(call_id)
    return row


def matching(visibility: Visibility, filters: CallFilters, zone: str) -> list[ColumnElement[bool]]:
    return [*_visible(visibility), *_matching(filters, zone)]


def in_order(query: Select[Any], order: Order) -> Select[Any]:
    if order == "oldest":
        return query.order_by(ApiCallLog.created_at, ApiCallLog.id)
    return query.order_by(ApiCallLog.created_at.desc(), ApiCallLog.id.desc())


def after(created_at: datetime, call_id: int, order: Order) -> ColumnElement[bool]:
    """What comes after a row. The first condition is the part of it that an index serves."""
    place, last = tuple_(ApiCallLog.created_at, ApiCallLog.id), tuple_(literal(created_at, DateTime()), literal(call_id))
    if order == "oldest":
        return and_(ApiCallLog.created_at >= created_at, place > last)
    return and_(ApiCallLog.created_at <= created_at, place < last)


def _key(call: Call) -> str:
    return f"{call[STORED_AT].isoformat()} {call['id']}"


def _beyond(key: str, order: Order) -> ColumnElement[bool]:
    moment, _, number = key.partition(" ")
    try:
        created_at, call_id = datetime.fromisoformat(moment), int(number)
    except ValueError:
        raise no_cursor() from None
    if created_at.tzinfo is not None or not 0 <= call_id <= LARGEST_KEY:
        raise no_cursor()
    return after(created_at, call_id, order)


def columns_of(zone: str, *, without: frozenset[str]) -> list[ColumnElement[Any]]:
    created_at = func.timezone(zone, ApiCallLog.created_at, type_=DateTime(timezone=True)).label("created_at")
    columns = [column for column in ApiCallLog.__table__.columns if column.name not in without]
    named = [created_at if column.name == "created_at" else column for column in columns]
    return [*named, ApiCallLog.created_at.label(STORED_AT)]


def _hidden(visibility: Visibility) -> frozenset[str]:
    return frozenset() if visibility == EVERYTHING else OPERATORS_ONLY


def _visible(visibility: Visibility) -> list[ColumnElement[bool]]:
    conditions = []
    if visibility.user_id is not None:
        conditions.append(ApiCallLog.user_id == visibility.user_id)
    if visibility.key_id is not None:
        conditions.append(ApiCallLog.api_key_id == visibility.key_id)
    return conditions


def _asked(visibility: Visibility, filters: CallFilters) -> dict[str, Any]:
    """What must be equal. What may be seen comes first: where it is not what is asked for, nothing matches anyway."""
    asked = {field.name: getattr(filters, field.name) for field in fields(filters) if field.name not in _RANGES}
    seen = {"user_id": visibility.user_id, "api_key_id": visibility.key_id}
    return {name: value for name, value in (asked | {n: v for n, v in seen.items() if v is not None}).items() if value is not None}


def _matching(filters: CallFilters, zone: str) -> list[ColumnElement[bool]]:
    asked = _asked(EVERYTHING, filters)
    conditions = [getattr(ApiCallLog, name) == value for name, value in asked.items()]
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


class Explain(Executable, ClauseElement):
    """Answers the query's plan, as JSON."""

    inherit_cache = False

    def __init__(self, query: Select[Any]) -> None:
        self.query = query


@compiles(Explain)
def _explain(element: Explain, compiler: SQLCompiler, **options: Any) -> str:
    return f"EXPLAIN (FORMAT JSON) {compiler.process(element.query, **options)}"
