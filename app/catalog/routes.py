"""Routes one by one: which upstream serves which model, in which order. An upstream's `models` are the same rows, as a whole:
see `catalog.upstreams`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.catalog.model_routes import MOST_MODELS, model_ids, parse_models
from app.catalog.upstreams import PRIORITY, WEIGHT, check_order, find_upstream
from app.catalog.violations import explained
from app.errors import Conflict, NotFound
from app.ledger.audit_entries import picked, record_change
from app.models import ModelRoute, Upstream
from app.paging import Page, cut, decode

LISTING = "routes"
AUDITED = ("upstream_id", "model", "upstream_model", "priority", "weight")


@dataclass(frozen=True, slots=True)
class RouteRow:
    """`model`: a name, or a prefix that ends in `*`. `upstream_model` None: the name goes on as it came. `serves`: the upstream
    is not disabled."""

    id: int
    model: str
    upstream_id: int
    upstream: str
    upstream_model: str | None
    priority: int
    weight: int
    serves: bool


async def create_route(
    session: AsyncSession, *, upstream_id: int, model: str, upstream_model: str | None, priority: int = PRIORITY, weight: int = WEIGHT
) -> RouteRow:
    """Raises `NotFound` for an unknown upstream, `Conflict` where it serves the model already, or too many."""
    await find_upstream(session, upstream_id=upstream_id, lock=True)
    check_order(priority, weight)
    [(pattern, theirs)] = parse_models({model: upstream_model}).items()
    count = select(func.count()).where(ModelRoute.upstream_id == upstream_id)
    if (await session.execute(count)).scalar_one() >= MOST_MODELS:
        raise Conflict(f"The upstream has {MOST_MODELS} routes, as many as it may. A wildcard stands for many.", code="too_many_routes")
    named = {} if pattern.endswith("*") else await model_ids(session, names=[pattern])
    row = ModelRoute(
        upstream_id=upstream_id, model_id=named.get(pattern), pattern=pattern, upstream_model=theirs, priority=priority, weight=weight
    )
    session.add(row)
    with explained(table="model_route", taken=f"The upstream serves {pattern!r} already. Change that route (PATCH)."):
        await session.flush()
    route = await get_route(session, route_id=row.id)
    await record_change(session, "route", route.id, before=None, after=picked(route, AUDITED))
    return route


async def get_route(session: AsyncSession, *, route_id: int) -> RouteRow:
    row = (await session.execute(_routes().where(ModelRoute.id == route_id))).one_or_none()
    if row is None:
        raise NotFound(f"There is no route {route_id}.", code="route_not_found")
    return RouteRow(*row)


async def list_routes(
    session: AsyncSession, *, limit: int, cursor: str | None, q: str | None = None, upstream_id: int | None = None
) -> Page[RouteRow]:
    """By id, ascending; those of an upstream, those that have `q` in the model's name."""
    query = _routes().order_by(ModelRoute.id).limit(limit + 1)
    if q is not None:
        query = query.where(ModelRoute.pattern.icontains(q, autoescape=True))
    if upstream_id is not None:
        query = query.where(ModelRoute.upstream_id == upstream_id)
    if (after := decode(LISTING, cursor, int)) is not None:
        query = query.where(ModelRoute.id > after)
    routes = [RouteRow(*row) for row in await session.execute(query)]
    return cut(routes, limit=limit, listing=LISTING, key=lambda route: route.id)


async def update_route(session: AsyncSession, *, route_id: int, changes: Mapping[str, Any]) -> RouteRow:
    """`changes`: `upstream_model`, `priority`, `weight`; what is absent stays."""
    row = await _locked(session, route_id)
    before = picked(await get_route(session, route_id=route_id), AUDITED)
    if "upstream_model" in changes:
        row.upstream_model = parse_models({row.pattern: changes["upstream_model"]})[row.pattern]
    row.priority, row.weight = changes.get("priority", row.priority), changes.get("weight", row.weight)
    check_order(row.priority, row.weight)
    await session.flush()
    route = await get_route(session, route_id=route_id)
    await record_change(session, "route", route_id, before=before, after=picked(route, AUDITED))
    return route


async def delete_route(session: AsyncSession, *, route_id: int) -> None:
    await _locked(session, route_id)
    route = await get_route(session, route_id=route_id)
    await session.execute(delete(ModelRoute).where(ModelRoute.id == route_id))
    await record_change(session, "route", route_id, before=picked(route, AUDITED), after=None)


async def _locked(session: AsyncSession, route_id: int) -> ModelRoute:
    row = (await session.scalars(select(ModelRoute).where(ModelRoute.id == route_id).with_for_update())).one_or_none()
    if row is None:
        raise NotFound(f"There is no route {route_id}.", code="route_not_found")
    return row


def _routes() -> Select[int, str, int, str, str | None, int, int, bool]:
    return select(
        ModelRoute.id,
        ModelRoute.pattern,
        ModelRoute.upstream_id,
        Upstream.name,
        ModelRoute.upstream_model,
        ModelRoute.priority,
        ModelRoute.weight,
        Upstream.disabled_at.is_(None),
    ).join(Upstream, Upstream.id == ModelRoute.upstream_id)
