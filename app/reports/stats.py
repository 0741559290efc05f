"""What calls came to, by what they have in common and by time.

Of sums that are kept, where these tell apart what is asked for, and else of rows: for the parts of hours at the ends of a period,
and for what only rows tell. Both are written in one transaction, so that it makes no difference which are asked. Sums outlive
people, keys and archived rows: they still name a deleted key, whose rows no longer do. The platform's own rows are left out.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any, Literal
from zoneinfo import ZoneInfo

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    DateTime,
    Row,
    Select,
    Text,
    and_,
    cast,
    func,
    literal,
    or_,
    select,
    text,
    union_all,
)  # fmt: skip
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from app.database import SCHEMA
from app.errors import UnacceptableValue
from app.models import ApiCallLog, UsageHourly, UsagePeriod
from app.reports.calls import EVERYTHING, PLANNED_ANEW, CallFilters, Visibility, matching
from app.reports.latencies import percentiles
from app.reports.periods import Interval, Pieces, Span, pieces, starts, widened

Grouping = Literal["user", "key", "model", "upstream", "api", "status", "is_local", "group", "end_user"]
MOST_PERIODS = 10_000
MOST_DAYS = {"minute": 3, None: 31}
"""Of rows, as they are read one by one: by minute, and for what sums don't tell."""
_KEPT = {
    "user": "user_id", "key": "api_key_id", "model": "model_name", "upstream": "upstream_id", "api": "api", "status": "status",
    "is_local": "is_local",
}  # fmt: skip
_OF_USERS = {"user_id", "status"}
_MEASURES = (
    "calls", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "charge", "bill", "write_off",
    "upstream_cost",
)  # fmt: skip
_TOKENS = _MEASURES[1:6]
_TOLD = {"latencies": "latency_ms", "first_tokens": "first_token_ms"}
"""What the percentiles of each histogram are called."""
_SHARES = (0.5, 0.95, 0.99)
_AT_ONCE = 100
"""Histograms read before calls get their turn."""
_FEW = 40
"""Spans that a condition lists."""
_ROOM = text("SELECT set_config('work_mem', '32MB', true), set_config('enable_hashagg', :hashing, true)")
"""For the sums of some thousand groups: with less, many rows would be sorted first. Few rows are: sums of histograms that stand side
by side take several KiB a group (4,000 of 6,000 rows: 64 ms of PostgreSQL's CPU; one after the other 40)."""
_LATE = timedelta(hours=1)
"""Beyond now: clocks differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """`filters` with the times they are limited to. `most`: groups answered, those with the most calls of each period first."""

    visibility: Visibility
    filters: CallFilters
    group_by: Sequence[Grouping]
    interval: Interval | None
    time_zone: ZoneInfo
    most: int
    with_percentiles: bool


@dataclass(frozen=True, slots=True)
class Answered:
    """`truncated`: there are more groups than were asked for."""

    since: datetime
    until: datetime
    groups: list[dict[str, Any]]
    truncated: bool


async def stats(session: AsyncSession, question: Question, *, log_zone: str) -> Answered:
    """Raises `UnacceptableValue` for more periods, or more days of rows, than are read at once."""
    await session.execute(PLANNED_ANEW)
    since, until = await _limits(session, question.filters)
    begun = starts(since, until, question.interval, question.time_zone, most=MOST_PERIODS)
    if len(begun) > MOST_PERIODS:
        raise UnacceptableValue(f"interval: these are more than {MOST_PERIODS:,} periods. Ask for a longer interval, or less time.")
    edges = [since, *begun[1:], until]
    kept = _is_kept(question)
    if kept:
        of_people, asked = _tells_people(question), question.filters
        edges = widened(edges, of_people=of_people, has_start=asked.created_from is not None, has_end=asked.created_to is not None)
        parts = pieces(edges, of_people=of_people)
    else:
        _require_short(question, since, until)
        parts = Pieces(rows=[(since, until)] if since < until else [], day_edges=edges)
    query = _query(question, parts, edges, log_zone)
    names, found = await _found(session, query, parts)
    groups = [dict(zip(names, row, strict=True)) for row in found[: question.most]]
    await _finish(groups, begun if question.interval else None, question)
    return Answered(since, until, groups, len(found) > question.most)


async def _found(session: AsyncSession, query: Select[Any] | None, parts: Pieces) -> tuple[list[str], Sequence[Row[Any]]]:
    """The names of the columns, and the rows."""
    if query is None:
        return [], []
    connection = await session.connection()  # which makes rows of columns with less ado than a session
    await connection.execute(_ROOM, {"hashing": "off" if parts.are_few else "on"})
    result = await connection.execute(query)
    return list(result.keys()), result.all()


async def _limits(session: AsyncSession, filters: CallFilters) -> Span:
    """What isn't limited begins with the first call and ends with the last."""
    until = filters.created_to or datetime.now(UTC) + _LATE
    since = filters.created_from
    if since is None:
        since = (await session.execute(select(func.min(UsageHourly.hour)))).scalar_one() or until
    return min(since, until), until


def _is_kept(question: Question) -> bool:
    return question.interval != "minute" and set(question.group_by) <= _KEPT.keys() and _asked(question) <= set(_KEPT.values())


def _asked(question: Question) -> set[str]:
    """Columns that a filter gives a value."""
    return {name for name, value in asdict(question.filters).items() if value is not None} - {"created_from", "created_to"}


def _months(question: Question) -> str:
    """Which of the two kinds: that by user has a tenth of the rows."""
    told = {_KEPT[name] for name in question.group_by} | _asked(question)
    return "user" if told <= _OF_USERS and question.visibility.key_id is None else "month"


def _tells_people(question: Question) -> bool:
    filters, seen = question.filters, question.visibility
    asked = (filters.user_id, filters.api_key_id, seen.user_id, seen.key_id)
    return any(value is not None for value in asked) or not {"user", "key"}.isdisjoint(question.group_by)


def _require_short(question: Question, since: datetime, until: datetime) -> None:
    days = MOST_DAYS["minute" if question.interval == "minute" else None]
    if until - since > timedelta(days=days) + _LATE:
        raise UnacceptableValue(
            f"created_from: for this, rows are read one by one, of {days} days at most. Set `created_from` and `created_to` closer. Sums of"
            f" any time are kept by {', '.join(_KEPT)}; and by hour, day, month."
        )


def _query(question: Question, parts: Pieces, edges: Sequence[datetime], log_zone: str) -> Select[Any] | None:
    """None: of no time at all."""
    dimensions = [*question.group_by]
    sources = [
        *([_kept(UsagePeriod.start, parts.months, question, edges).where(UsagePeriod.period == _months(question))] if parts.months else []),
        *([_kept(UsagePeriod.start, parts.days, question, parts.day_edges).where(UsagePeriod.period == "day")] if parts.days else []),
        *([_kept(UsageHourly.hour, parts.hours, question, edges)] if parts.hours else []),
        *([_kept(UsageHourly.hour, parts.moved, question, parts.day_edges, sign=-1)] if parts.moved else []),
        *([_rows(parts.rows, question, edges, log_zone)] if parts.rows else []),
    ]
    if not sources:
        return None
    found = (union_all(*sources) if len(sources) > 1 else sources[0]).subquery()
    keys = [found.c[name] for name in ("period", *dimensions)]
    sums = {name: func.sum(found.c[name]) for name in _MEASURES}
    calls = sums["calls"]
    failures = func.coalesce(func.sum(found.c.calls).filter(found.c.status_ == "failed"), 0)
    measures = [
        cast(calls, BigInteger).label("calls"),
        cast(failures, BigInteger).label("failures"),
        *(cast(sums[name], BigInteger if name in _TOKENS else Text).label(name) for name in _MEASURES[1:]),
        *([func.numeric_send(func.sum(found.c[name])).label(name) for name in _TOLD] if question.with_percentiles else []),
    ]
    query = select(*keys, *measures).group_by(*keys).having(calls != 0)
    return query.order_by(found.c.period, calls.desc(), *keys[1:]).limit(question.most + 1)


def _kept(
    moment: InstrumentedAttribute[datetime], spans: Sequence[Span], question: Question, edges: Sequence[datetime], *, sign: int = 1
) -> Select[Any]:
    """Of the table that has the column `moment`. `sign`: -1 to take them away."""
    table: Any = moment.class_
    filters = {name: value for name, value in asdict(question.filters).items() if value is not None and hasattr(table, name)}
    seen = {"user_id": question.visibility.user_id, "api_key_id": question.visibility.key_id}
    conditions = [getattr(table, name) == value for name, value in filters.items()]
    conditions += [getattr(table, name) == value for name, value in seen.items() if value is not None]
    keys = [_absent_as_null(getattr(table, _KEPT[name])).label(name) for name in question.group_by]
    columns = [getattr(table, name) for name in (*_MEASURES, *_TOLD)]
    measures = columns if sign > 0 else [(-column).label(column.name) for column in columns]
    status = table.status.label("status_")
    return select(_period(moment, edges, question), *keys, status, *measures).where(*conditions, _within(moment, spans))


def _rows(spans: Sequence[Span], question: Question, edges: Sequence[datetime], log_zone: str) -> Select[Any]:
    log = ApiCallLog
    only_rows = {"group": log.price["group"].astext, "end_user": log.end_user}
    keys = [(only_rows[name] if name in only_rows else getattr(log, _KEPT[name])).label(name) for name in question.group_by]
    durations = zip((log.latency_ms, log.first_token_ms), _TOLD, strict=True)
    measures = [
        literal(1).label("calls"),
        *(func.coalesce(getattr(log, name), 0).label(name) for name in _MEASURES[1:]),
        *(getattr(func, SCHEMA).latency_bucket(duration).label(name) for duration, name in durations),
    ]
    filters = replace(question.filters, created_from=None, created_to=None)
    conditions = [*matching(question.visibility, filters, log_zone), log.request_id.is_not(None)]
    query = select(_period(log.settled_at, edges, question), *keys, log.status.label("status_"), *measures)
    stored = [_as_stored(span, log_zone) for span in spans]
    if len(spans) <= _FEW:
        dated = or_(*(and_(log.created_at >= low, log.created_at <= high) for low, high in stored))
        return query.where(*conditions, dated, _within(log.settled_at, spans))
    lists = [literal(list(part), ARRAY(DateTime())) for part in zip(*stored, strict=True)]
    lists += [literal(list(part), ARRAY(DateTime(timezone=True))) for part in zip(*spans, strict=True)]
    span = func.unnest(*lists).table_valued("low", "high", "since", "until", name="span").render_derived()
    dated = and_(log.created_at >= span.c.low, log.created_at <= span.c.high, log.settled_at >= span.c.since, log.settled_at < span.c.until)
    return query.select_from(span).join(log, dated).where(*conditions)


def _period(moment: Any, edges: Sequence[datetime], question: Question) -> ColumnElement[int]:
    """The number of the period, from 1."""
    if question.interval is None:
        return literal(1).label("period")
    return func.width_bucket(moment, literal(list(edges[:-1]), ARRAY(DateTime(timezone=True)))).label("period")


def _within(moment: Any, spans: Sequence[Span]) -> ColumnElement[bool]:
    """Many spans are told by what lies between them, hours that are each a row's own value."""
    if len(spans) <= _FEW:
        return or_(*(and_(moment >= since, moment < until) for since, until in spans))
    missing = []
    for (_, gap), (until, _) in pairwise(spans):
        while gap < until:
            missing.append(gap)
            gap += timedelta(hours=1)  # noqa: PLW2901
    whole = and_(moment >= spans[0][0], moment < spans[-1][1])
    return and_(whole, moment != func.all(literal(missing, ARRAY(DateTime(timezone=True))))) if missing else whole


def _as_stored(span: Span, log_zone: str) -> Span:
    """A range of `created_at` that holds all rows of the span: where clocks are set back in it, more than them."""
    since, until = (moment.astimezone(ZoneInfo(log_zone)).replace(tzinfo=None) for moment in span)
    margin = abs((until - since) - (span[1] - span[0]))
    return since - margin, until + margin


def _absent_as_null(column: Any) -> ColumnElement[Any]:
    absent = {"api": "", "api_key_id": 0, "upstream_id": 0}.get(column.name)
    found: ColumnElement[Any] = column if absent is None else func.nullif(column, absent)
    return found


async def _finish(groups: list[dict[str, Any]], begun: Sequence[datetime] | None, question: Question) -> None:
    """Puts times for numbers of periods, and percentiles for histograms."""
    shown = [start.astimezone(question.time_zone) for start in begun or ()]
    sees_margin = question.visibility == EVERYTHING
    for number, group in enumerate(groups):
        period = group.pop("period")
        if begun is not None:
            group["start"] = shown[period - 1]
        _show_margin(group, sees_margin=sees_margin)
        if question.with_percentiles:
            for name, told in _TOLD.items():
                p50, p95, p99 = percentiles(group.pop(name), _SHARES, of=group["calls"])
                group[told] = {"p50": p50, "p95": p95, "p99": p99}
            if number % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)


def _show_margin(group: dict[str, Any], *, sees_margin: bool) -> None:
    """To operators alone: what is left of the bill, where it is known what upstreams took."""
    cost = group.pop("upstream_cost")
    if sees_margin:
        group["upstream_cost"] = cost
        taken = Decimal(cost)
        group["margin"] = str(Decimal(group["bill"]) - taken) if taken else None
