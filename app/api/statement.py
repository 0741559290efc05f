"""`/admin/users/{id}/statement` and `/v1/statement`. The first is registered before `/admin/users/{id}`, as ids may hold slashes."""

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response
from pydantic import AfterValidator, Field, WithJsonSchema
from uuid_utils.compat import uuid7

from app.api.dependencies import CallerOf, Services, ServicesOf, require_admin
from app.api.fields import Answer, Moment, Money, Request, UserId, written_as
from app.api.problems import documented
from app.errors import Forbidden
from app.reports.statement import Statement, statement_of
from app.reports.statement_csv import as_csv
from app.settings import known_zone

router = APIRouter()


def _zone(name: str) -> str:
    try:
        return known_zone(name)
    except ValueError:
        raise ValueError("must be a time zone of the IANA database, such as Asia/Shanghai or UTC") from None


_MONTH = r"^(19[7-9]|2[0-9]{2})[0-9]-(0[1-9]|1[0-2])$"
Month = Annotated[
    str,
    written_as(_MONTH, "must be a month of the years 1970 to 2999, as in 2030-01"),
    WithJsonSchema({"type": "string", "pattern": _MONTH}),
]


class Wanted(Request):
    month: Month = Field(description="`YYYY-MM`.", examples=["2030-01"])
    time_zone: Annotated[str, AfterValidator(_zone)] | None = Field(
        default=None, max_length=100, description="In which the month begins. null: `LOG_TIME_ZONE`.", examples=["Asia/Kolkata"]
    )
    format: Literal["json", "csv"] = "json"


class EntryAnswer(Answer):
    id: int = Field(examples=[1])
    amount: Money = Field(examples=["10.0000"])
    note: str | None = Field(examples=["invoice 4711"])
    created_at: Moment
    request_id: UUID | None = Field(description="The call that was refunded.")


class UsageAnswer(Answer):
    model_name: str = Field(examples=["gpt-4o-mini"])
    api_key_id: int | None = Field(description="null: no key, or one that is deleted.", examples=[1])
    api_key_name: str | None = Field(examples=["laptop"])
    calls: int = Field(examples=[12])
    input_tokens: int = Field(examples=[1200])
    output_tokens: int = Field(examples=[80])
    cache_read_tokens: int = Field(examples=[1024])
    cache_write_tokens: int = Field(examples=[0])
    reasoning_tokens: int = Field(examples=[0])
    charge: Money = Field(description="Exact.", examples=["0.0002280000"])
    bill: Money = Field(description="What the balance falls by.", examples=["0.0002"])
    write_off: Money = Field(description="What it cost beyond what could be charged.", examples=["0.0000000000"])


class StatementAnswer(Answer):
    """`opening_balance` + `credited` + `refunded` - `billed` = `closing_balance`."""

    user_id: str = Field(examples=["alice"])
    currency: str = Field(examples=["USD"])
    month: str = Field(examples=["2030-01"])
    time_zone: str = Field(examples=["UTC"])
    start: Moment = Field(description="Inclusive.")
    end: Moment = Field(description="Exclusive.")
    made_at: Moment = Field(description="Before `end`, the month isn't over.")
    opening_balance: Money = Field(examples=["0.0000"])
    credits: list[EntryAnswer]
    credited: Money = Field(examples=["10.0000"])
    refunds: list[EntryAnswer]
    refunded: Money = Field(examples=["0.0000"])
    usage: list[UsageAnswer]
    billed: Money = Field(examples=["0.0002"])
    charged: Money = Field(description="The exact sum of what was used.", examples=["0.0002280000"])
    written_off: Money = Field(examples=["0.0000000000"])
    closing_balance: Money = Field(examples=["9.9998"])


_IN_CSV: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/csv": {"schema": {"type": "string"}}}, "description": "As JSON, or with `format=csv` as CSV."}
}


@router.get(
    "/admin/users/{user_id:path}/statement",
    tags=["Users and credit"],
    summary="Show a month's statement",
    dependencies=[Depends(require_admin)],
    response_model=StatementAnswer,
    responses={**documented(401, 404, 422, 429, 503), **_IN_CSV},
)
async def show(services: ServicesOf, user_id: UserId, wanted: Annotated[Wanted, Query()]) -> StatementAnswer | Response:
    """Balances, credits, refunds, and usage by model and key. A call counts in the month in which its row stands."""
    return await _answer(services, user_id, wanted)


@router.get(
    "/v1/statement", tags=["Own key"], summary="Show one's own statement of a month", response_model=StatementAnswer, responses=_IN_CSV
)
async def show_own(
    services: ServicesOf, caller: CallerOf, wanted: Annotated[Wanted, Query()], response: Response
) -> StatementAnswer | Response:
    """For keys whose `scope` is `account`."""
    if caller.scope != "account":
        raise Forbidden(
            "This API key sees its own calls only. Use one whose scope is `account`, or ask your operator.", code="scope_missing"
        )
    answer = await _answer(services, caller.user_id, wanted)
    for sent in (response, answer):
        if isinstance(sent, Response):
            sent.headers["X-Request-ID"] = str(uuid7())
    return answer


async def _answer(services: Services, user_id: str, wanted: Wanted) -> StatementAnswer | Response:
    zone = wanted.time_zone or services.settings.log_time_zone
    async with services.database.reading() as session:
        statement = await statement_of(session, user_id=user_id, month=wanted.month, time_zone=zone)
    return _as_csv(statement) if wanted.format == "csv" else _as_json(statement, services.settings.currency)


def _as_json(statement: Statement, currency: str) -> StatementAnswer:
    shown = {name: getattr(statement, name) for name in StatementAnswer.model_fields if hasattr(statement, name)}
    return StatementAnswer.model_validate(shown | {"currency": currency})


def _as_csv(statement: Statement) -> Response:
    name = f'attachment; filename="statement-{statement.month}.csv"'
    return Response(as_csv(statement), media_type="text/csv; charset=utf-8", headers={"Content-Disposition": name})
