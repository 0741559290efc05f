"""`/admin/prices`."""

from typing import Annotated, Any

from fastapi import Query
from pydantic import Field

from app.api.admin.shapes import PageOf, admin_router
from app.api.dependencies import ServicesOf
from app.api.fields import Answer, Cursor, Limit, ModelName, Moment, MomentIn, Rate, Request, Search
from app.api.problems import documented
from app.catalog.prices import list_price_history, list_prices, set_price
from app.models import ModelPrice

router = admin_router("/prices", tag="Prices")

Rates = Annotated[
    dict[str, Rate],
    Field(
        max_length=100,
        description="Meter -> decimal string. Per 1,000,000 tokens: `input`, `output`, `cache_read`, `cache_write`, `cache_write_1h`, "
        "`reasoning`, `audio_input`, `audio_output`, `image_input`, `image_output`. Each: `request`, `image`, `second`, `character`, "
        "`search`, `web_search`. Images also by quality and size: `image:hd`, `image:1024x1024`, `image:hd:1024x1024`; the most precise "
        "counts. Where the answer reports tokens and all of them have rates, these are billed, and no images or seconds.",
        examples=[{"input": "0.15", "output": "0.60", "cache_read": "0.075"}],
    ),
]


ServiceTiers = Annotated[
    dict[str, Rates],
    Field(
        max_length=20,
        description="Service tier -> rates, by the name that answers tell (`flex`, `priority`; Anthropic's fast mode is `fast`). "
        "Meters that are left out keep the base rates.",
        examples=[{"flex": {"input": "0.075", "output": "0.30"}, "priority": {"input": "0.25", "output": "1"}}],
    ),
]


class Tier(Request):
    above_input_tokens: int = Field(ge=1, le=2**31 - 1, strict=True, examples=[200000])
    rates: Rates | None = Field(default=None, description="May be left out where there are `service_tiers`.")
    service_tiers: ServiceTiers | None = Field(default=None, description="Of calls of that size; they stand above all other rates.")


class Terms(Request):
    rates: Rates
    tiers: list[Tier] | None = Field(
        default=None,
        max_length=20,
        description="Rates for the whole call where its input is larger than so many tokens.",
        examples=[[{"above_input_tokens": 200000, "rates": {"input": "0.30"}}]],
    )
    service_tiers: ServiceTiers | None = None

    def written(self) -> dict[str, Any]:
        """As `Price.parse` takes them."""
        tiers = [
            {
                "above_input_tokens": tier.above_input_tokens,
                "rates": _texts(tier.rates or {}),
                "service_tiers": _by_service(tier.service_tiers),
            }
            for tier in self.tiers or ()
        ]
        return {"rates": _texts(self.rates), "tiers": tiers, "service_tiers": _by_service(self.service_tiers)}


class NewPrice(Terms):
    effective_from: MomentIn | None = Field(
        default=None, description="ISO 8601; without a zone it is UTC. By default now.", examples=["2030-01-01T00:00:00Z"]
    )


class TierAnswer(Answer):
    above_input_tokens: int = Field(examples=[200000])
    rates: dict[str, str] = Field(examples=[{"input": "0.30"}])
    service_tiers: dict[str, dict[str, str]] | None = None


class PriceAnswer(Answer):
    id: int = Field(examples=[1])
    model: str = Field(examples=["openai/gpt-oss-120b"])
    rates: dict[str, str] = Field(examples=[{"input": "0.15", "output": "0.60", "cache_read": "0.075"}])
    tiers: list[TierAnswer] | None
    service_tiers: dict[str, dict[str, str]] | None = Field(examples=[{"flex": {"input": "0.075", "output": "0.30"}}])
    source: str = Field(description="Who set it.", examples=["operator"])
    effective_from: Moment
    created_at: Moment


@router.put("/{model:path}", summary="Set a model's price", responses=documented(404, 409))
async def put(services: ServicesOf, model: ModelName, body: NewPrice) -> PriceAnswer:
    """A new dated price, which supersedes the one before from `effective_from` on. Rows keep the price that they were billed by."""
    async with services.changing_catalog() as session:
        price = await set_price(session, model_name=model, effective_from=body.effective_from, **body.written())
    return _answer(price)


@router.get("", summary="List prices")
async def list_all(
    services: ServicesOf,
    history: Annotated[bool, Query(description="All that ever held or will hold, the last one set first.")] = False,
    q: Search = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> PageOf[PriceAnswer]:
    """What is in force now, by model; with `history=true` all."""
    async with services.database.reading() as session:
        if history:
            page = await list_price_history(session, model_name=None, q=q, limit=limit, cursor=cursor)
        else:
            page = await list_prices(session, q=q, limit=limit, cursor=cursor)
    return PageOf[PriceAnswer](data=[_answer(price) for price in page.rows], next_cursor=page.next_cursor)


# the last decorator is the first route
@router.get("/{model:path}", summary="Show the prices of one model", responses=documented(404))
@router.get("/{model:path}/history", summary="Show the prices of one model", responses=documented(404))
async def show(services: ServicesOf, model: ModelName, limit: Limit = 100, cursor: Cursor = None) -> PageOf[PriceAnswer]:
    """Past, present and future, the last one set first."""
    async with services.database.reading() as session:
        page = await list_price_history(session, model_name=model, limit=limit, cursor=cursor)
    return PageOf[PriceAnswer](data=[_answer(price) for price in page.rows], next_cursor=page.next_cursor)


def _texts(rates: dict[str, Rate]) -> dict[str, str]:
    return {meter: str(rate) for meter, rate in rates.items()}


def _by_service(service_tiers: dict[str, dict[str, Rate]] | None) -> dict[str, dict[str, str]]:
    return {name: _texts(rates) for name, rates in (service_tiers or {}).items()}


def _answer(price: ModelPrice) -> PriceAnswer:
    return PriceAnswer(
        id=price.id,
        model=price.model_name,
        rates=price.rates,
        tiers=None if price.tiers is None else [TierAnswer.model_validate(tier) for tier in price.tiers],
        service_tiers=price.service_tiers,
        source=price.source,
        effective_from=price.effective_from,
        created_at=price.created_at,
    )
