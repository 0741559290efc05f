"""`/v1/key` and `/v1/redeem`: what the holder of a key may know of it and of the account behind it, and put on that account."""

from fastapi import APIRouter, Response
from pydantic import Field
from uuid_utils.compat import uuid7

from app.api.dependencies import CallerOf, ServicesOf
from app.api.fields import Answer, Moment, Money, Request
from app.catalog.keys import get_key
from app.catalog.users import get_user
from app.errors import ProxyError
from app.ledger.codes import redeem_code

router = APIRouter(prefix="/v1", tags=["Own key"])


class Balance(Answer):
    credit: Money = Field(description="All that was paid in or given back.", examples=["10.0000"])
    credit_limit: Money = Field(description="How far the account may go below zero.", examples=["0.0000"])
    billed: Money = Field(examples=["0.4000"])
    spent: Money = Field(examples=["0.4000120000"])
    held: Money = Field(description="The ceilings of calls in flight.", examples=["0.0000000000"])
    available: Money = Field(description="What new calls may cost.", examples=["9.5999880000"])


class OwnKey(Answer):
    """`account` is the whole user's; the rest is the key's own. Limits that are null don't exist."""

    id: int = Field(examples=[1])
    user_id: str | None = Field(examples=["alice"])
    name: str | None = Field(examples=["laptop"])
    key_prefix: str | None = Field(examples=["sk-Zk3v9Qa"])
    scope: str = Field(examples=["key"])
    models: list[str] | None
    allowed_ips: list[str] | None
    expires_at: Moment | None
    spend_limit: Money | None = Field(examples=["25.0000000000"])
    rpm: int | None
    tpm: int | None
    max_concurrency: int | None
    spent: Money = Field(examples=["0.4000120000"])
    held: Money = Field(examples=["0.0000000000"])
    in_flight: int = Field(examples=[0])
    currency: str = Field(examples=["USD"])
    topup_url: str | None = Field(description="Where to pay in, as the operator tells.", examples=["https://platform.example.com/topup"])
    account: Balance


class Redemption(Request):
    code: str = Field(
        min_length=1, max_length=100, description="In any case, with or without hyphens.", examples=["7K3M-Q9XD-2B4W-HT8E-51ZP"]
    )


class Redeemed(Answer):
    amount: Money = Field(description="What the code was worth.", examples=["10.0000"])
    currency: str = Field(examples=["USD"])
    available: Money = Field(description="What new calls may cost.", examples=["19.9999880000"])


@router.get("/key", summary="Show one's own key, limits and balance")
async def show(services: ServicesOf, caller: CallerOf, response: Response) -> OwnKey:
    response.headers["X-Request-ID"] = str(uuid7())
    async with services.database.reading() as session:
        key = await get_key(session, key_id=caller.key_id)
        user = await get_user(session, user_id=caller.user_id, default_credit=services.settings.default_credit)
    shown = {name: getattr(key, name) for name in OwnKey.model_fields if hasattr(key, name)}
    settings = services.settings
    return OwnKey(**shown, currency=settings.currency, topup_url=settings.topup_url, account=Balance.model_validate(user))


@router.post("/redeem", summary="Redeem a code: its amount goes to the account")
async def redeem(services: ServicesOf, caller: CallerOf, body: Redemption, response: Response) -> Redeemed:
    """A code works once. 422 `code_mistyped`: it can't be one. 404 `code_unknown`: there is none; after five of those the key has
    to wait, 429 `too_many_guesses`. 409 `code_redeemed`, `code_expired`, `code_voided`: it has been one."""
    settings = services.settings
    async with services.database.transaction() as session:
        entry = await redeem_code(
            session, text=body.code, user_id=caller.user_id, key_id=caller.key_id, default_credit=settings.default_credit
        )
    if isinstance(entry, ProxyError):
        raise entry
    response.headers["X-Request-ID"] = str(uuid7())
    async with services.database.reading() as session:
        user = await get_user(session, user_id=caller.user_id, default_credit=settings.default_credit)
    return Redeemed(amount=entry.amount, currency=settings.currency, available=user.available)
