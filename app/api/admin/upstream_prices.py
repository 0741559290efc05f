"""`/admin/upstreams/{id}/prices`: what an upstream charges the operator."""

from fastapi import APIRouter, Depends
from pydantic import Field

from app.api.admin.prices import NewPrice, TierAnswer, by_service, texts, tiers_of
from app.api.dependencies import ServicesOf, require_admin
from app.api.fields import Answer, Cursor, Limit, ModelName, Moment, NumericId
from app.api.problems import documented
from app.catalog.upstream_prices import list_upstream_prices, set_upstream_price
from app.models import UpstreamPrice

router = APIRouter(
    prefix="/admin/upstreams", tags=["Prices"], dependencies=[Depends(require_admin)], responses=documented(401, 404, 422, 503)
)


class UpstreamPriceAnswer(Answer):
    id: int = Field(examples=[1])
    upstream_id: int = Field(examples=[1])
    model: str = Field(description="As clients call it.", examples=["openai/gpt-oss-120b"])
    rates: dict[str, str] = Field(examples=[{"input": "0.10", "output": "0.40"}])
    tiers: list[TierAnswer] | None
    service_tiers: dict[str, dict[str, str]] | None
    effective_from: Moment
    created_at: Moment


class UpstreamPricePage(Answer):
    data: list[UpstreamPriceAnswer]
    next_cursor: str | None


@router.put("/{upstream_id}/prices/{model:path}", summary="Set what an upstream charges you for a model", responses=documented(409))
async def put(services: ServicesOf, upstream_id: NumericId, model: ModelName, body: NewPrice) -> UpstreamPriceAnswer:
    """A new dated price. Rows of calls that are served there from `effective_from` on keep what they cost you, as `upstream_cost`."""
    async with services.changing_catalog() as session:
        price = await set_upstream_price(
            session,
            upstream_id=upstream_id,
            model_name=model,
            rates=texts(body.rates),
            tiers=tiers_of(body),
            effective_from=body.effective_from,
            service_tiers=by_service(body.service_tiers),
        )
    return _answer(price)


@router.get("/{upstream_id}/prices", summary="List what an upstream charges you")
async def list_all(services: ServicesOf, upstream_id: NumericId, limit: Limit = 100, cursor: Cursor = None) -> UpstreamPricePage:
    """Past, present and future, the last one set first."""
    async with services.database.reading() as session:
        page = await list_upstream_prices(session, upstream_id=upstream_id, limit=limit, cursor=cursor)
    return UpstreamPricePage(data=[_answer(price) for price in page.rows], next_cursor=page.next_cursor)


def _answer(price: UpstreamPrice) -> UpstreamPriceAnswer:
    shown = {name: getattr(price, name) for name in UpstreamPriceAnswer.model_fields if name not in ("model", "tiers")}
    tiers = None if price.tiers is None else [TierAnswer.model_validate(tier) for tier in price.tiers]
    return UpstreamPriceAnswer(**shown, model=price.model_name, tiers=tiers)
