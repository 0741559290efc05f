"""`/logs/{id}/refund`."""

from typing import Annotated

from fastapi import APIRouter, Body, Depends, Path
from pydantic import Field

from app.api.admin.credits import CreditAnswer, IdempotencyKey
from app.api.dependencies import ServicesOf, require_admin
from app.api.fields import MoneyIn, Request
from app.api.problems import documented
from app.ledger.refunds import refund_call
from app.reports.calls import EVERYTHING, get_call

router = APIRouter(
    prefix="/logs", tags=["Logs"], dependencies=[Depends(require_admin)], responses=documented(400, 401, 403, 404, 413, 422, 503)
)


class NewRefund(Request):
    amount: MoneyIn | None = Field(
        default=None, description="Greater than 0, at most 4 decimals. null: all that is left of the bill.", examples=["0.0002"]
    )
    note: str | None = Field(default=None, max_length=1000, examples=["the answer was cut off"])


@router.post("/{call_id}/refund", status_code=201, summary="Refund a call, or a part of it", responses=documented(409))
async def refund(
    services: ServicesOf,
    call_id: Annotated[str, Path(max_length=100, description="The row's `id` or its `request_id`.", examples=["4711"])],
    body: Annotated[NewRefund, Body(default_factory=NewRefund)],
    idempotency_key: IdempotencyKey = None,
) -> CreditAnswer:
    """A credit entry that names the call; its row stays as it is. 409 `refund_exceeds_bill` and `nothing_to_refund`: all refunds
    of a call together never exceed its bill. 409 `idempotency_key_reused`: the key came with something else before."""
    settings = services.settings
    async with services.database.transaction() as session:
        call = await get_call(session, visibility=EVERYTHING, call_id=call_id, zone=settings.log_time_zone)
        entry = await refund_call(
            session,
            user_id=call["user_id"],
            request_id=call["request_id"],
            amount=body.amount,
            note=body.note,
            idempotency_key=idempotency_key,
            default_credit=settings.default_credit,
        )
    return CreditAnswer.model_validate(entry)
