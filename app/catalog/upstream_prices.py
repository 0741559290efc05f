"""What upstreams charge the operator: dated rows that supersede one another and are never edited, as the prices of calls."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.billing.price import Price
from app.catalog import checks
from app.catalog.violations import explained
from app.errors import NotFound, UnacceptableValue
from app.ledger.audit_entries import picked, record
from app.models import Upstream, UpstreamPrice
from app.paging import Page, cut, decode

LISTING = "upstream-prices"
AUDITED = ("model_name", "rates", "tiers", "service_tiers", "effective_from")


async def set_upstream_price(
    session: AsyncSession,
    *,
    upstream_id: int,
    model_name: str,
    rates: Mapping[str, str],
    tiers: Sequence[Mapping[str, Any]] | None,
    effective_from: datetime | None,
    service_tiers: Mapping[str, Mapping[str, str]] | None,
) -> UpstreamPrice:
    """In force from `effective_from`, or from now on. Raises `NotFound`, `UnacceptableValue`, and `Conflict` for a date that has
    a price."""
    checks.name("model", model_name, longest=255)
    await _require(session, upstream_id)
    try:
        price = Price.parse(id=None, model_name=model_name, rates=rates, tiers=tiers, service_tiers=service_tiers).as_written()
    except ValueError as invalid:
        raise UnacceptableValue(f"rates: {invalid}") from None
    values = {"upstream_id": upstream_id, "model_name": model_name, "tiers": None, "service_tiers": None, **price}
    if effective_from is not None:
        values["effective_from"] = effective_from
    taken = f"This upstream's {model_name!r} has a price from that very time on. Choose a later `effective_from`."
    with explained(table="upstream_price", taken=taken):
        made = (await session.scalars(insert(UpstreamPrice).values(values).returning(UpstreamPrice))).one()
    superseded = await _superseded(session, made)
    before = None if superseded is None else picked(superseded, AUDITED)
    await record(session, "upstream_price.set", "upstream", upstream_id, before=before, after=picked(made, AUDITED))
    return made


async def _superseded(session: AsyncSession, price: UpstreamPrice) -> UpstreamPrice | None:
    """What would hold at its time without it."""
    same = (UpstreamPrice.upstream_id == price.upstream_id, UpstreamPrice.model_name == price.model_name)
    earlier = select(UpstreamPrice).where(*same, UpstreamPrice.effective_from < price.effective_from)
    return (await session.scalars(earlier.order_by(UpstreamPrice.effective_from.desc()).limit(1))).one_or_none()


async def list_upstream_prices(session: AsyncSession, *, upstream_id: int, limit: int, cursor: str | None) -> Page[UpstreamPrice]:
    """Past, present and future, the last one set first. Raises `NotFound` for an unknown upstream."""
    await _require(session, upstream_id)
    query = select(UpstreamPrice).where(UpstreamPrice.upstream_id == upstream_id).order_by(UpstreamPrice.id.desc()).limit(limit + 1)
    if (before := decode(LISTING, cursor, int)) is not None:
        query = query.where(UpstreamPrice.id < before)
    prices = (await session.scalars(query)).all()
    return cut(prices, limit=limit, listing=LISTING, key=lambda price: price.id)


async def _require(session: AsyncSession, upstream_id: int) -> None:
    if await session.get(Upstream, upstream_id) is None:
        raise NotFound(f"There is no upstream {upstream_id}.", code="upstream_not_found")
