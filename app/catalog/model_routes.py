"""Which models an upstream serves: the rows behind an upstream's `models`.

A name gets a row in `model`, made where it is missing. A wildcard has none: what it serves need not be known here.
"""

from collections.abc import Mapping, Sequence

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.catalog import checks
from app.errors import UnacceptableValue
from app.models import Model, ModelRoute

MOST_MODELS = 5000
"""Of one upstream: what PostgreSQL takes as parameters of one statement."""

Models = Sequence[str] | Mapping[str, str | None]
"""Names and wildcards that go on as they came, or `{name: the upstream's own name}`."""


def parse_models(models: Models) -> dict[str, str | None]:
    """Pattern -> the upstream's name, None where the name goes on as it came. Raises `UnacceptableValue`."""
    given = models if isinstance(models, Mapping) else dict.fromkeys(models)
    checks.patterns("models", list(given))
    if len(given) > MOST_MODELS:
        raise UnacceptableValue(f"models: name at most {MOST_MODELS}; a wildcard such as `openai/*` stands for many")
    return {name: None if theirs is None or theirs == name else _upstream_name(name, theirs) for name, theirs in given.items()}


def shown(routes: Sequence[ModelRoute]) -> list[str] | dict[str, str]:
    """In the form in which `parse_models` takes it: a list where every name goes on as it came."""
    if all(route.upstream_model is None for route in routes):
        return [route.pattern for route in routes]
    return {route.pattern: route.upstream_model or route.pattern for route in routes}


async def replace_routes(
    session: AsyncSession, *, upstream_id: int, models: Mapping[str, str | None], priority: int, weight: int, anew: frozenset[str]
) -> None:
    """The upstream's routes become exactly these; those that stay keep their ids, and what of `priority` and `weight` is not to be
    set `anew`."""
    gone = ModelRoute.pattern.not_in(models)
    await session.execute(delete(ModelRoute).where(ModelRoute.upstream_id == upstream_id, gone))
    ids = await model_ids(session, names=sorted(name for name in models if not name.endswith("*")))
    rows = [
        {
            "upstream_id": upstream_id,
            "model_id": ids.get(name),
            "pattern": name,
            "upstream_model": theirs,
            "priority": priority,
            "weight": weight,
        }
        for name, theirs in models.items()
    ]
    statement = insert(ModelRoute).values(rows)
    updated = {column: statement.excluded[column] for column in ("model_id", "upstream_model", *sorted(anew))}
    await session.execute(statement.on_conflict_do_update(constraint="uq_model_route_upstream_pattern", set_=updated))


async def routes_of(session: AsyncSession, *, upstream_ids: Sequence[int]) -> list[ModelRoute]:
    query = select(ModelRoute).where(ModelRoute.upstream_id.in_(upstream_ids)).order_by(ModelRoute.id)
    return list((await session.scalars(query, execution_options={"populate_existing": True})).all())


async def model_ids(session: AsyncSession, *, names: Sequence[str]) -> dict[str, int]:
    if not names:
        return {}
    await session.execute(insert(Model).values([{"name": name} for name in names]).on_conflict_do_nothing())
    found = await session.execute(select(Model.name, Model.id).where(Model.name.in_(names)))
    return {row.name: row.id for row in found}


def _upstream_name(name: str, theirs: str) -> str:
    checks.text(f"models.{name}", theirs, longest=255)
    if "*" in theirs:
        raise UnacceptableValue(f"models.{name}: the upstream's name must be one name, without `*`")
    return theirs
