"""`/logs`: every call's row, for operators; and for the holder of a platform key, their own."""

from dataclasses import fields
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Path, Query
from pydantic import Field

from app.api.dependencies import ServicesOf, VisibilityOf
from app.api.fields import LARGEST_INTEGER, Answer, Moment, MomentIn, Money, MoneyIn, Request, Text
from app.api.problems import documented
from app.ledger.refunds import refunded
from app.reports.calls import CallFilters, PageAsked, count_calls, cursor_after, get_call, list_calls

router = APIRouter(prefix="/logs", tags=["Logs"], responses=documented(401, 403, 422, 429, 503))

Number = Annotated[int, Field(ge=1, le=LARGEST_INTEGER)]
Bill = Annotated[MoneyIn, Field(max_digits=12, decimal_places=4)]
"""As the column, NUMERIC(12, 4), which it is compared with."""


class CallMatch(Request):
    """All that is given must fit. A parameter that isn't known is refused."""

    user_id: Text | None = None
    api_key_id: Number | None = None
    model_name: Text | None = Field(default=None, description="As the client called it.")
    model_id: Number | None = None
    is_local: bool | None = None
    status: Literal["success", "failed"] | None = None
    request_id: UUID | None = Field(default=None, description="The call's `X-Request-ID`.")
    request_ip: Text | None = None
    api: Text | None = Field(default=None, description="As in `chat.completions`.")
    upstream_id: Number | None = None
    usage_source: Literal["provider", "estimated", "none"] | None = None
    end_reason: Text | None = None
    end_user: Text | None = None
    created_from: MomentIn | None = Field(default=None, description="Inclusive. ISO 8601; without a zone it is UTC. Write `+` as `%2B`.")
    created_to: MomentIn | None = Field(default=None, description="Exclusive.")
    min_bill: Bill | None = Field(default=None, description="Rows whose bill is at least this.")

    def filters(self) -> CallFilters:
        return CallFilters(**{field.name: getattr(self, field.name) for field in fields(CallFilters)})


class CallQuery(CallMatch):
    order: Literal["newest", "oldest"] = Field(
        default="newest",
        description="By `created_at`. Oldest first, a listing ends where calls that have ended are not all committed yet, a moment ago.",
    )
    total: Literal["estimated", "exact", "none"] = Field(
        default="estimated",
        description="`estimated` counts a small log only. `exact` counts any, which takes seconds where millions match.",
    )
    limit: int = Field(default=100, ge=1, le=500, description="Rows on a page.")
    cursor: str | None = Field(default=None, max_length=1000, description="`next_cursor` of the page before.")


class CallRow(Answer):
    """The columns of `api_call_log`."""

    id: int = Field(examples=[4711])
    user_id: str = Field(examples=["alice"])
    api_key_id: int | None = Field(examples=[1])
    model_id: int | None = Field(description="null: served by a wildcard.", examples=[7])
    model_name: str = Field(examples=["gpt-4o-mini"])
    is_local: bool
    input_tokens: int = Field(description="The whole input, cached parts included.", examples=[1200])
    output_tokens: int = Field(description="The whole output, reasoning included.", examples=[80])
    bill: Money = Field(description="Four decimals, cut so that a user's bills add up to the exact charges.", examples=["0.0002"])
    status: str = Field(examples=["success"])
    error_message: str | None
    request_ip: str | None = Field(examples=["203.0.113.7"])
    created_at: Moment = Field(description="In UTC.", examples=["2030-01-01T12:00:00.123456Z"])
    request_id: UUID | None = Field(description="null: a row that the platform wrote itself.")
    charge: Money | None = Field(description="The exact cost.", examples=["0.0002280000"])
    write_off: Money | None = Field(description="What it cost beyond what could be charged.", examples=["0.0000000000"])
    cache_read_tokens: int | None = Field(examples=[1024])
    cache_write_tokens: int | None = Field(examples=[0])
    reasoning_tokens: int | None = Field(examples=[0])
    usage_source: str | None = Field(description="Where the counts come from: `provider`, `estimated` or `none`.", examples=["provider"])
    api: str | None = Field(examples=["chat.completions"])
    is_stream: bool | None
    upstream_id: int | None = Field(examples=[1])
    upstream_model: str | None = Field(examples=["gpt-4o-mini-2024-07-18"])
    http_status: int | None = Field(examples=[200])
    latency_ms: int | None = Field(examples=[640])
    first_token_ms: int | None = Field(examples=[210])
    end_reason: str | None = Field(examples=["completed"])
    end_user: str | None
    max_tokens_applied: int | None = Field(description="The output limit that was set so that the call fits the credit.")
    flags: list[str] | None
    tags: dict[str, Any] | None
    upstream_cost: Money | None = Field(
        default=None, description="What the upstream charges the operator. null: not known, or asked with a platform key.", examples=[None]
    )
    amended_at: Moment | None = Field(description="When an orphaned call's truth was learned after all, and put into this row.")


class CallDetail(CallRow):
    price: dict[str, Any] | None = Field(description="The price that applied.")
    line_items: list[dict[str, Any]] | None = Field(description="How the charge adds up.")
    attempts: list[dict[str, Any]] | None = Field(
        description="The upstreams that were tried; and of one that failed, what it may have cost all the same, where that is known."
    )
    rounding: Money | None = Field(
        description="`bill` less `charge`: what was carried over from the user's calls before, or is left to those that follow.",
        examples=["-0.0000280000"],
    )
    refunded: Money = Field(description="What was given back of its bill, in credit entries that name it.", examples=["0.0000"])


class CallPage(Answer):
    data: list[CallRow]
    next_cursor: str | None = Field(description="null: there is no more.")
    last_cursor: str | None = Field(
        description="Of the last row on the page, whether there is more or not: with `order=oldest`, what comes later is asked for with it."
    )
    total: int | None = Field(description="Calls that match, on all pages.", examples=[4711])
    total_is_exact: bool | None


@router.get("", summary="List calls")
async def list_all(services: ServicesOf, visibility: VisibilityOf, query: Annotated[CallQuery, Query()]) -> CallPage:
    """With a platform key: that key's own calls; its whole user's, where the key has `scope` `account`. Rows that arrive while pages
    are asked for are neither repeated nor do they push others out of sight."""
    filters, zone = query.filters(), services.settings.log_time_zone
    async with services.database.reading() as session:
        asked = PageAsked(visibility=visibility, filters=filters, zone=zone, limit=query.limit, cursor=query.cursor, order=query.order)
        page = await list_calls(session, asked)
        total: int | None = None
        is_exact: bool | None = None
        if query.total != "none":
            total, is_exact = len(page.rows), page.next_cursor is None and query.cursor is None
            if not is_exact:
                asked_exact = query.total == "exact"
                counted, is_exact = await count_calls(session, visibility=visibility, filters=filters, zone=zone, exact=asked_exact)
                total = max(total, counted)
    return CallPage(
        data=[CallRow.model_validate(row) for row in page.rows],
        next_cursor=page.next_cursor,
        last_cursor=cursor_after(page.rows[-1], query.order) if page.rows else query.cursor,
        total=total,
        total_is_exact=is_exact,
    )


@router.get("/{call_id}", summary="Show one call in full", responses=documented(404))
async def show(
    services: ServicesOf,
    visibility: VisibilityOf,
    call_id: Annotated[str, Path(max_length=100, description="The row's `id` or its `request_id`.", examples=["4711"])],
) -> CallDetail:
    """With the price that applied, the line items, what rounding did, and the upstreams that were tried."""
    async with services.database.reading() as session:
        call = await get_call(session, visibility=visibility, call_id=call_id, zone=services.settings.log_time_zone)
        given_back = await refunded(session, request_id=call["request_id"])
    rounding = None if call["charge"] is None else call["bill"] - call["charge"]
    return CallDetail.model_validate({**call, "rounding": rounding, "refunded": given_back})
