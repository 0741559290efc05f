"""`/admin/users/{id}/credits`. Its routes are registered before those of `/admin/users/{id}`, as ids may hold slashes."""

from typing import Annotated
from uuid import UUID

from fastapi import Header
from pydantic import Field

from app.api.admin.shapes import PageOf, admin_router
from app.api.dependencies import ServicesOf
from app.api.fields import Answer, Cursor, Limit, Moment, Money, MoneyIn, Request, UserId
from app.api.problems import documented
from app.ledger.credits import add_credit, list_credits

router = admin_router("/users", tag="Users and credit")

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1, max_length=255, description="Makes it safe to say this again: the first entry is answered.", examples=["payment-4711"]
    ),
]


class NewCredit(Request):
    amount: MoneyIn = Field(
        description="At most 4 decimals, not 0; negative takes credit back.",
        examples=["10.00"],
    )
    note: str | None = Field(default=None, max_length=1000, examples=["invoice 4711"])


class CreditAnswer(Answer):
    id: int = Field(examples=[1])
    user_id: str = Field(examples=["alice"])
    amount: Money = Field(examples=["10.0000"])
    note: str | None = Field(examples=["invoice 4711"])
    idempotency_key: str | None = Field(examples=["payment-4711"])
    created_at: Moment
    request_id: UUID | None = Field(description="The call that is refunded by it.")
    code_id: int | None = Field(description="The redemption code that it was redeemed with.")


@router.post("/{user_id:path}/credits", status_code=201, summary="Add credit, or take it back", responses=documented(404, 409))
async def add(services: ServicesOf, user_id: UserId, body: NewCredit, idempotency_key: IdempotencyKey = None) -> CreditAnswer:
    """409 `insufficient_available` where more would be taken back than is available, `idempotency_key_reused` where the key
    came with another amount or note before."""
    async with services.database.transaction() as session:
        entry = await add_credit(
            session,
            user_id=user_id,
            amount=body.amount,
            note=body.note,
            idempotency_key=idempotency_key,
            default_credit=services.settings.default_credit,
        )
    return CreditAnswer.model_validate(entry)


@router.get("/{user_id:path}/credits", summary="List credit entries", responses=documented(404))
async def list_all(services: ServicesOf, user_id: UserId, limit: Limit = 100, cursor: Cursor = None) -> PageOf[CreditAnswer]:
    """Newest first. Their sum is the account's credit."""
    async with services.database.reading() as session:
        page = await list_credits(session, user_id=user_id, limit=limit, cursor=cursor)
    return PageOf[CreditAnswer].of(page)
