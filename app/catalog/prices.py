"""Prices: dated rows that supersede one another and are never edited, so that every bill can be explained."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.billing.price import Price
from app.catalog import checks
from app.catalog.violations import explained
from app.errors import NotFound, UnacceptableValue
from app.ledger.audit_entries import picked, record
from app.models import ModelPrice
from app.paging import Page, cut, decode

CURRENT, HISTORY = "prices", "price-history"
AUDITED = ("rates", "tiers", "service_tiers", "source", "effective_from")


async def set_price(
    session: AsyncSession,
    *,
    model_name: str,
    rates: Mapping[str, str],
    tiers: Sequence[Mapping[str, Any]] | None,
    effective_from: datetime | None,
    service_tiers: Mapping[str, Mapping[str, str]] | None = None,
) -> ModelPrice:
    """In force from `effective_from`, or from now on. Raises `UnacceptableValue`, and `Conflict` for a date that has a price."""
    checks.name("model", model_name, longest=255)
    try:
        price = Price.parse(id=None, model_name=model_name, rates=rates, tiers=tiers, service_tiers=service_tiers).as_written()
    except ValueError as invalid:
        raise UnacceptableValue(f"rates: {invalid}") from None
    values = {"model_name": model_name, "tiers": None, "service_tiers": None, **price}
    if effective_from is not None:
        values["effective_from"] = effective_from
    with explained(table="model_price", taken=f"{model_name!r} has a price from that very time on. Choose a later `effective_from`."):
        made = (await session.scalars(insert(ModelPrice).values(values).returning(ModelPrice))).one()
    superseded = await superseded_by(session, made)
    before = None if superseded is None else picked(superseded, AUDITED)
    await record(session, "price.set", "price", model_name, before=before, after=picked(made, AUDITED))
    return made


async def superseded_by(session: AsyncSession, price: ModelPrice) -> ModelPrice | None:
    """What would hold at its time without it."""
    earlier = select(ModelPrice).where(ModelPrice.model_name == price.model_name, ModelPrice.effective_from < price.effective_from)
    return (await session.scalars(earlier.order_by(ModelPrice.effective_from.desc()).limit(1))).one_or_none()


async def list_prices(session: AsyncSession, *, limit: int, cursor: str | None, q: str | None = None) -> Page[ModelPrice]:
    """What is in force now: for each model the latest `effective_from` that has passed. By name; of those that have `q` in it."""
    query = (
        select(ModelPrice)
        .distinct(ModelPrice.model_name)
        .where(ModelPrice.effective_from <= func.now())
        .order_by(ModelPrice.model_name, ModelPrice.effective_from.desc())
        .limit(limit + 1)
    )
    if q is not None:
        query = query.where(ModelPrice.model_name.icontains(q, autoescape=True))
    if (after := decode(CURRENT, cursor, str)) is not None:
        query = query.where(ModelPrice.model_name > after)
    prices = (await session.scalars(query)).all()
    return cut(prices, limit=limit, listing=CURRENT, key=lambda price: price.model_name)


async def all_prices(session: AsyncSession, *, history: bool) -> Sequence[ModelPrice]:
    """By name: what is in force now, or all that ever held or will hold."""
    query = select(ModelPrice).order_by(ModelPrice.model_name, ModelPrice.effective_from.desc())
    if not history:
        query = query.distinct(ModelPrice.model_name).where(ModelPrice.effective_from <= func.now())
    return (await session.scalars(query)).all()


async def prices_in_force(session: AsyncSession, *, names: Sequence[str]) -> list[ModelPrice]:
    """As `list_prices`, of these models."""
    query = (
        select(ModelPrice)
        .distinct(ModelPrice.model_name)
        .where(ModelPrice.effective_from <= func.now(), ModelPrice.model_name.in_(names))
        .order_by(ModelPrice.model_name, ModelPrice.effective_from.desc())
    )
    return list((await session.scalars(query)).all())


async def list_price_history(
    session: AsyncSession, *, model_name: str | None, limit: int, cursor: str | None, q: str | None = None
) -> Page[ModelPrice]:
    """Past, present and future, the last one set first; of one model, of those that have `q` in their
    names, or of all. Raises `NotFound` for a model without any."""
    query = select(ModelPrice).order_by(ModelPrice.id.desc()).limit(limit + 1)
    if model_name is not None:
        query = query.where(ModelPrice.model_name == model_name)
    if q is not None:
        query = query.where(ModelPrice.model_name.icontains(q, autoescape=True))
    before = decode(HISTORY, cursor, int)
    if before is not None:
        query = query.where(ModelPrice.id < before)
    prices = (await session.scalars(query)).all()
    if model_name is not None and before is None and not prices:
        raise NotFound(f"{model_name!r} has no price. Set one (PUT, or 'billing-proxy prices set').", code="price_not_found")
    return cut(prices, limit=limit, listing=HISTORY, key=lambda price: price.id)
