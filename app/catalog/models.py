"""Limits of models: what bounds a call's cost where the client sets no bound of its own.

They hold for a name, whichever upstream serves it, by name or by a wildcard.
"""

from collections.abc import Mapping

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.catalog import checks
from app.errors import NotFound, UnacceptableValue
from app.ledger.audit_entries import picked, record_change
from app.models import Model
from app.paging import Page, cut, decode

LISTING = "models"
AUDITED = ("context_tokens", "max_output_tokens")


async def set_limits(session: AsyncSession, *, name: str, context_tokens: int | None, max_output_tokens: int | None) -> Model:
    """Both anew; None: unknown. Makes the model where there is none. Raises `UnacceptableValue`."""
    checks.name("model", name, longest=255)
    if "*" in name:
        raise UnacceptableValue(f"model: limits are those of one model, and {name!r} stands for many")
    limits = _checked({"context_tokens": context_tokens, "max_output_tokens": max_output_tokens})
    made = (await session.execute(insert(Model).values(name=name).on_conflict_do_nothing().returning(Model.id))).one_or_none()
    return await _changed(session, name, limits, is_new=made is not None)


async def update_limits(session: AsyncSession, *, name: str, changes: Mapping[str, int | None]) -> Model:
    """`changes`: what is absent stays. Raises `NotFound` and `UnacceptableValue`."""
    return await _changed(session, name, _checked(changes), is_new=False)


async def get_model(session: AsyncSession, *, name: str, lock: bool = False) -> Model:
    query = select(Model).where(Model.name == name)
    model = (await session.scalars(query.with_for_update(key_share=True) if lock else query)).one_or_none()
    if model is None:
        said = f"There is no model {name!r}. Set its limits (PUT, or 'billing-proxy models set'), or let an upstream name it."
        raise NotFound(said, code="model_not_found")
    return model


async def list_models(session: AsyncSession, *, limit: int, cursor: str | None, q: str | None = None) -> Page[Model]:
    """By name; those that have `q` in it."""
    query = select(Model).order_by(Model.name).limit(limit + 1)
    if q is not None:
        query = query.where(Model.name.icontains(q, autoescape=True))
    if (after := decode(LISTING, cursor, str)) is not None:
        query = query.where(Model.name > after)
    return cut((await session.scalars(query)).all(), limit=limit, listing=LISTING, key=lambda model: model.name)


async def _changed(session: AsyncSession, name: str, limits: Mapping[str, int | None], *, is_new: bool) -> Model:
    model = await get_model(session, name=name, lock=True)
    before = None if is_new else picked(model, AUDITED)
    for limit, tokens in limits.items():
        setattr(model, limit, tokens)
    await session.flush()
    await record_change(session, "model", name, before=before, after=picked(model, AUDITED))
    return model


def _checked(limits: Mapping[str, int | None]) -> dict[str, int | None]:
    return {name: None if tokens is None else checks.count(name, tokens) for name, tokens in limits.items()}
