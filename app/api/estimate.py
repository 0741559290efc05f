"""`/v1/estimate`: what a call would hold and cost, for the holder of a key."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Response
from pydantic import Field
from uuid_utils.compat import uuid7

from app.api.dependencies import CallerOf, ServicesOf
from app.api.fields import Answer, Money, Request
from app.billing.usage import LARGEST_COUNT, Usage
from app.catalog.users import get_user
from app.gateway.quote import Quote, quote

router = APIRouter(prefix="/v1", tags=["Own key"])
Count = Annotated[int, Field(ge=0, le=LARGEST_COUNT, strict=True)]


class Counts(Request):
    """As on a row: the parts are in the whole."""

    input_tokens: Count = Field(default=0, examples=[1200])
    output_tokens: Count = Field(default=0, examples=[300])
    cache_read_tokens: Count = 0
    cache_write_tokens: Count = 0
    reasoning_tokens: Count = 0


class Asking(Request):
    path: str = Field(default="/v1/chat/completions", max_length=500, description="Where the call would go.")
    request: dict[str, Any] = Field(
        description="The body that would be sent there; its size is taken as of compact JSON.",
        examples=[{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 300}],
    )
    usage: Counts | None = Field(default=None, description="What it costs if it uses this.")


class Item(Answer):
    meter: str = Field(examples=["input"])
    quantity: int = Field(examples=[1200])
    unit_price: Money = Field(examples=["0.15"])
    per: int = Field(examples=[1000000])
    amount: Money = Field(description="quantity x unit_price / per", examples=["0.00018"])


class Estimate(Answer):
    model: str = Field(examples=["gpt-4o-mini"])
    api: str = Field(examples=["chat.completions"])
    ceiling: Money = Field(description="What would be held: the most that the call can cost.", examples=["0.0012000000"])
    input_tokens: int = Field(description="The bound of the input that is held for.", examples=[40])
    output_tokens: int = Field(description="The bound of the output.", examples=[300])
    open_ended: bool = Field(description="The call may use more than that.")
    available: Money = Field(description="What the account has for new calls.", examples=["9.5999880000"])
    fits: bool = Field(description="false: the call would be refused with 402.")
    max_tokens_applied: int | None = Field(description="The output limit that would be set so that it fits.")
    multiplier: Money = Field(description="Of the prices, by the group.", examples=["1"])
    cost: Money | None = Field(description="Of `usage`: the items times the multiplier.", examples=["0.0003600000"])
    line_items: list[Item] | None
    unpriced: list[str] | None = Field(description="Meters without a rate.")
    currency: str = Field(examples=["USD"])


@router.post("/estimate", summary="Tell what a call would hold and cost")
async def estimate(services: ServicesOf, caller: CallerOf, body: Asking, response: Response) -> Estimate:
    """By the same rules as the call itself; nothing is held, sent or written. Limits of rate and spend are not looked at."""
    response.headers["X-Request-ID"] = str(uuid7())
    async with services.database.reading() as session:
        user = await get_user(session, user_id=caller.user_id, default_credit=services.settings.default_credit)
    usage = None if body.usage is None else Usage(**body.usage.model_dump())
    sent = json.dumps(body.request, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    found = await quote(services.gateway, caller, path=body.path, body=sent, usage=usage, available=user.available)
    return _shown(found, services.settings.currency)


def _shown(found: Quote, currency: str) -> Estimate:
    call, cost = found.call, found.cost
    return Estimate(
        model=call.request.model,
        api=call.protocol.api,
        ceiling=call.ceiling,
        input_tokens=call.bound.input_tokens,
        output_tokens=call.bound.output_tokens,
        open_ended=call.open_ended,
        available=found.available,
        fits=found.fits,
        max_tokens_applied=call.output_limit_applied,
        multiplier=call.record.multiplier,
        cost=None if cost is None else cost.amount,
        line_items=None if cost is None else [Item.model_validate(item) for item in cost.items],
        unpriced=None if cost is None else list(cost.unpriced),
        currency=currency,
    )
