"""`/logs/stats`, `/logs/live` and `/logs/export`: what calls came to, and all of them as a stream."""

import gzip
from functools import partial
from typing import Annotated
from zoneinfo import ZoneInfo

import anyio
import msgspec
from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, Field
from starlette.types import Receive, Scope, Send

from app.api.dependencies import ServicesOf, VisibilityOf
from app.api.fields import Answer, Moment
from app.api.logs import CallMatch
from app.api.problems import documented
from app.reports.calls import Visibility
from app.reports.export import BYTE_ORDER_MARK, Exports, Format, export, export_query
from app.reports.live import live
from app.reports.periods import Interval
from app.reports.stats import Grouping, Question, stats
from app.settings import known_zone

router = APIRouter(prefix="/logs", tags=["Logs"], responses=documented(401, 403, 422, 429, 503))

LARGE = 4096
"""Bytes of an answer from which on compressing pays."""
_MEDIA = {"csv": "text/csv; charset=utf-8", "ndjson": "application/x-ndjson"}


class StatsQuery(CallMatch):
    group_by: list[Grouping] = Field(default=[], max_length=9, description="Repeat it for several. None: all calls together.")
    interval: Interval | None = Field(default=None, description="Of `time_zone`, in which days may have 23 or 25 hours.")
    time_zone: Annotated[str, Field(max_length=50), AfterValidator(known_zone)] = Field(default="UTC", examples=["Asia/Shanghai"])
    percentiles: bool = Field(default=True, description="Of latencies. Without them, an answer with thousands of groups is much faster.")
    limit: int = Field(default=10_000, ge=1, le=100_000, description="Groups.")


class Percentiles(Answer):
    """Milliseconds, from a histogram: off by 5 % at most from 10 ms on. null: no call has any."""

    p50: int | None
    p95: int | None
    p99: int | None


class StatsGroup(Answer):
    """What was asked to group by, and nothing else of the first block, is there."""

    start: Moment | None = Field(default=None, description="Of the period, which may begin before `created_from`.")
    user: str | None = None
    key: int | None = None
    model: str | None = None
    upstream: int | None = None
    api: str | None = None
    status: str | None = None
    is_local: bool | None = None
    group: str | None = None
    end_user: str | None = None

    calls: int
    failures: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    charge: str = Field(description="The exact cost.", examples=["0.0002280000"])
    bill: str = Field(examples=["0.0002"])
    write_off: str = Field(examples=["0.0000000000"])
    upstream_cost: str | None = Field(default=None, description="What upstreams took, where their own prices are set. For operators.")
    margin: str | None = Field(default=None, description="`bill` less `upstream_cost`; null where no cost of these calls is known.")
    latency_ms: Percentiles | None = Field(default=None, description="Of whole calls, by `latency_ms` of their rows.")
    first_token_ms: Percentiles | None = None


class Stats(Answer):
    created_from: Moment
    created_to: Moment
    data: list[StatsGroup] = Field(description="By period; in each, those with the most calls first.")
    truncated: bool = Field(description="There are more groups than `limit`.")


class Live(Answer):
    calls_per_minute: int = Field(description="That ended in the last minute.")
    failures_per_minute: int
    tokens_per_minute: int
    in_flight: int = Field(description="That are going on.")


class ExportQuery(CallMatch):
    format: Format = "csv"
    bom: bool = Field(default=False, description="A byte order mark before CSV, by which spreadsheets know that it is UTF-8.")
    cursor: int | None = Field(default=None, ge=1, le=2**63 - 1, description="`id` of the last row that has arrived: what follows it.")


@router.get("/stats", summary="What calls came to", responses={200: {"model": Stats}})
async def show_stats(request: Request, services: ServicesOf, visibility: VisibilityOf, query: Annotated[StatsQuery, Query()]) -> Response:
    """Exact sums, also over years; percentiles to 5 %. By minute, by `group` or `end_user`, and by filters other than those that can
    be grouped by, of 31 days at most (by minute, 3). With a platform key, of what it may see in `/logs`. The platform's own rows, without
    `request_id`, are left out; calls of deleted keys and users stay in."""
    question = Question(
        visibility=visibility,
        filters=query.filters(),
        group_by=list(dict.fromkeys(query.group_by)),
        interval=query.interval,
        time_zone=ZoneInfo(query.time_zone),
        most=query.limit,
        with_percentiles=query.percentiles,
    )
    async with services.database.reading() as session:
        found = await stats(session, question, log_zone=services.settings.log_time_zone)
    answer = {"created_from": found.since, "created_to": found.until, "data": found.groups, "truncated": found.truncated}
    return await _compressed(request, msgspec.json.encode(answer))


async def _compressed(request: Request, answer: bytes) -> Response:
    """With gzip for who takes it: a year of days by model is a megabyte as it is, and a twentieth of that compressed."""
    headers = {"Vary": "Accept-Encoding"}
    if len(answer) >= LARGE and "gzip" in request.headers.get("accept-encoding", ""):
        answer = await to_thread.run_sync(lambda: gzip.compress(answer, compresslevel=4, mtime=0))
        headers["Content-Encoding"] = "gzip"
    return Response(answer, headers=headers, media_type="application/json")


@router.get("/live", summary="What goes on right now")
async def show_live(services: ServicesOf, visibility: VisibilityOf) -> Live:
    async with services.database.reading() as session:
        return Live.model_validate(await live(session, visibility=visibility))


@router.get(
    "/export",
    summary="All calls as a stream",
    response_class=JSONResponse,
    responses=documented(429) | {200: {"content": {media: {"schema": {"type": "string"}} for media in _MEDIA.values()}}},
)
async def show_export(services: ServicesOf, visibility: VisibilityOf, query: Annotated[ExportQuery, Query()]) -> Response:
    """Oldest first, all columns, times in UTC, up to where calls that have ended are all committed. A stream that breaks off goes on with
    `cursor`, without a header. In CSV, a text that a spreadsheet would take for a formula has an apostrophe before it."""
    return _Export(services.exports, query, visibility, services.settings.log_time_zone)


class _Export(Response):
    """Begins with the first row, so that what is wrong before is answered as such; what breaks off later ends the connection."""

    def __init__(self, exports: Exports, query: ExportQuery, visibility: Visibility, zone: str) -> None:
        self.status_code = 200
        self.background = None
        self.media_type = _MEDIA[query.format]
        self.init_headers({"Content-Disposition": f'attachment; filename="calls.{query.format}"'})
        self._exports, self._query, self._visibility, self._zone = exports, query, visibility, zone
        self._begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = self._query
        async with self._exports.starting() as connection:
            sql = await export_query(
                connection,
                visibility=self._visibility,
                filters=query.filters(),
                zone=self._zone,
                format=query.format,
                after_id=query.cursor,
            )
            async with anyio.create_task_group() as group:
                group.start_soon(_leaves, receive, group.cancel_scope)
                await export(connection, sql, partial(self._pass_on, send), format=query.format, with_header=query.cursor is None)
                await self._begin(send)
                await send({"type": "http.response.body", "body": b""})
                group.cancel_scope.cancel()

    async def _begin(self, send: Send) -> None:
        if self._begun:
            return
        self._begun = True
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        if self._query.bom and self._query.format == "csv" and self._query.cursor is None:
            await send({"type": "http.response.body", "body": BYTE_ORDER_MARK, "more_body": True})

    async def _pass_on(self, send: Send, data: bytes) -> None:
        await self._begin(send)
        await send({"type": "http.response.body", "body": data, "more_body": True})


async def _leaves(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
