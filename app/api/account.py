"""`/v1/key`: what the holder of a key may know of it and of the account behind it."""

from fastapi import APIRouter, Response
from pydantic import Field
from uuid_utils.compat import uuid7

from app.api.dependencies import CallerOf, ServicesOf
from app.api.fields import Answer, Moment, Money
from app.catalog.keys import get_key
from app.catalog.users import get_user

router = APIRouter(prefix="/v1", tags=["Own key"])


class Balance(Answer):
    credit: Money = Field(description="All that was paid in.", examples=["10.0000"])
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
    account: Balance


@router.get("/key", summary="Show one's own key, limits and balance")
async def show(services: ServicesOf, caller: CallerOf, response: Response) -> OwnKey:
    response.headers["X-Request-ID"] = str(uuid7())
    async with services.database.reading() as session:
        key = await get_key(session, key_id=caller.key_id)
        user = await get_user(session, user_id=caller.user_id, default_credit=services.settings.default_credit)
    shown = {name: getattr(key, name) for name in OwnKey.model_fields if hasattr(key, name)}
    return OwnKey(**shown, currency=services.settings.currency, account=Balance.model_validate(user))
