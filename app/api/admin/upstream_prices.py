"""`/admin/upstreams/{id}/prices`: what an upstream charges the operator."""

from pydantic import Field

from app.api.admin.prices import NewPrice, TierAnswer
from app.api.admin.shapes import PageOf, admin_router
from app.api.dependencies import ServicesOf
from app.api.fields import Answer, Cursor, Limit, ModelName, Moment, NumericId
from app.api.problems import documented
from app.catalog.upstream_prices import list_upstream_prices, set_upstream_price
from app.models import UpstreamPrice

router = admin_router("/upstreams", tag="Prices")


class UpstreamPriceAnswer(Answer):
    id: int = Field(examples=[1])
    upstream_id: int = Field(examples=[1])
    model: str = Field(description="As clients call it.", examples=["openai/gpt-oss-120b"])
    rates: dict[str, str] = Field(examples=[{"input": "0.10", "output": "0.40"}])
    tiers: list[TierAnswer] | None
    service_tiers: dict[str, dict[str, str]] | None
    effective_from: Moment
    created_at: Moment


@router.put("/{upstream_id}/prices/{model:path}", summary="Set what an upstream charges you for a model", responses=documented(404, 409))
async def put(services: ServicesOf, upstream_id: NumericId, model: ModelName, body: NewPrice) -> UpstreamPriceAnswer:
    """A new dated price. Rows of calls that are served there from `effective_from` on keep what they cost you, as `upstream_cost`."""
    async with services.changing_catalog() as session:
        price = await set_upstream_price(
            session, upstream_id=upstream_id, model_name=model, effective_from=body.effective_from, **body.written()
        )
    return _answer(price)


@router.get("/{upstream_id}/prices", summary="List what an upstream charges you", responses=documented(404))
async def list_all(services: ServicesOf, upstream_id: NumericId, limit: Limit = 100, cursor: Cursor = None) -> PageOf[UpstreamPriceAnswer]:
    """Past, present and future, the last one set first."""
    async with services.database.reading() as session:
        page = await list_upstream_prices(session, upstream_id=upstream_id, limit=limit, cursor=cursor)
    return PageOf[UpstreamPriceAnswer](data=[_answer(price) for price in page.rows], next_cursor=page.next_cursor)


def _answer(price: UpstreamPrice) -> UpstreamPriceAnswer:
    shown = {name: getattr(price, name) for name in UpstreamPriceAnswer.model_fields if name not in ("model", "tiers")}
    tiers = None if price.tiers is None else [TierAnswer.model_validate(tier) for tier in price.tiers]
    return UpstreamPriceAnswer(**shown, model=price.model_name, tiers=tiers)
