"""Groups: what calls of their users cost, and may do. A key's own group stands in the place of its user's, but for limits.

Limits of a group are those of each of its users, and a user's own stand before them. A group that is in use can't be deleted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Self

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.catalog import checks
from app.catalog.violations import explained
from app.errors import Conflict, NotFound, UnacceptableValue
from app.ledger.audit_entries import picked, record_change
from app.models import SpendGroup
from app.paging import Page, cut, decode

LISTING = "groups"
LARGEST_MULTIPLIER = Decimal(1000)
MULTIPLIER_DECIMALS = 6
MOST_TAGS = 20
LONGEST_TAG = 40
AUDITED = (
    "name",
    "multiplier",
    "model_multipliers",
    "models",
    "upstream_tags",
    "rpm",
    "tpm",
    "max_concurrency",
    "daily_limit",
    "monthly_limit",
)


@dataclass(frozen=True, slots=True)
class Group:
    """A group as calls know it. `model_multipliers`: by name, or prefix that ends in `*`; the longest that fits holds."""

    id: int
    name: str
    multiplier: Decimal
    model_multipliers: Mapping[str, Decimal]
    models: tuple[str, ...] | None
    upstream_tags: frozenset[str] | None

    @classmethod
    def of(cls, row: SpendGroup) -> Self:
        return cls(
            id=row.id,
            name=row.name,
            multiplier=row.multiplier,
            model_multipliers={pattern: Decimal(text) for pattern, text in (row.model_multipliers or {}).items()},
            models=None if row.models is None else tuple(row.models),
            upstream_tags=None if row.upstream_tags is None else frozenset(row.upstream_tags),
        )

    def multiplier_of(self, model: str) -> Decimal:
        fitting = [pattern for pattern in self.model_multipliers if fits(model, pattern)]
        return self.model_multipliers[max(fitting, key=len)] if fitting else self.multiplier

    def may_use(self, model: str) -> bool:
        return self.models is None or any(fits(model, allowed) for allowed in self.models)

    def may_go_to(self, tags: frozenset[str]) -> bool:
        return self.upstream_tags is None or not self.upstream_tags.isdisjoint(tags)


def fits(model: str, pattern: str) -> bool:
    """`pattern`: a name, or a prefix that ends in `*`."""
    return model.startswith(pattern[:-1]) if pattern.endswith("*") else model == pattern


async def create_group(session: AsyncSession, *, name: str, values: Mapping[str, Any]) -> SpendGroup:
    """`values`: columns of `spend_group`. Raises `Conflict` for a name that is taken."""
    checked = {"name": checks.name("name", name, longest=100), **_checked(values)}
    with explained(table="spend_group", taken=_taken(name)):
        group = (await session.scalars(insert(SpendGroup).values(checked).returning(SpendGroup))).one()
    await record_change(session, "group", group.id, before=None, after=picked(group, AUDITED))
    return group


async def get_group(session: AsyncSession, *, name: str, lock: bool = False) -> SpendGroup:
    query = select(SpendGroup).where(SpendGroup.name == name)
    group = (await session.scalars(query.with_for_update(key_share=True) if lock else query)).one_or_none()
    if group is None:
        raise NotFound(f"There is no group {name!r}.", code="group_not_found")
    return group


async def group_id_of(session: AsyncSession, name: str | None) -> int | None:
    """For a user or a key that is put into it: it stays until they are. Raises `UnacceptableValue` where there is none of the name."""
    if name is None:
        return None
    query = select(SpendGroup.id).where(SpendGroup.name == name).with_for_update(read=True, key_share=True)
    group_id = (await session.execute(query)).scalar_one_or_none()
    if group_id is None:
        raise UnacceptableValue(f"group: there is no group {name!r}. Create it first: POST /admin/groups, or 'billing-proxy groups add'")
    return group_id


async def list_groups(session: AsyncSession, *, limit: int, cursor: str | None) -> Page[SpendGroup]:
    """By name."""
    query = select(SpendGroup).order_by(SpendGroup.name).limit(limit + 1)
    if (after := decode(LISTING, cursor, str)) is not None:
        query = query.where(SpendGroup.name > after)
    return cut((await session.scalars(query)).all(), limit=limit, listing=LISTING, key=lambda group: group.name)


async def update_group(session: AsyncSession, *, name: str, changes: Mapping[str, Any]) -> SpendGroup:
    """What is absent stays; None lifts a limit."""
    group = await get_group(session, name=name, lock=True)
    before = picked(group, AUDITED)
    for column, value in _checked({column: value for column, value in changes.items() if column != "name"}).items():
        setattr(group, column, value)
    if "name" in changes:
        group.name = checks.name("name", changes["name"], longest=100)
    with explained(table="spend_group", taken=_taken(group.name)):
        await session.flush()
    await record_change(session, "group", group.id, before=before, after=picked(group, AUDITED))
    return group


async def delete_group(session: AsyncSession, *, name: str) -> None:
    """Raises `Conflict` while users or keys are in it."""
    group = await get_group(session, name=name, lock=True)
    try:
        await session.execute(delete(SpendGroup).where(SpendGroup.id == group.id))
    except IntegrityError as used:
        raise Conflict(f"Users or keys are in the group {name!r}. Put them into another one first.", code="group_in_use") from used
    await record_change(session, "group", group.id, before=picked(group, AUDITED), after=None)


def _checked(values: Mapping[str, Any]) -> dict[str, Any]:
    return {column: _checked_value(column, value) for column, value in values.items()}


def _checked_value(column: str, value: Any) -> Any:
    if value is None:
        if column == "multiplier":
            raise UnacceptableValue("multiplier: can't be lifted; 1 leaves prices as they are")
        return None
    match column:
        case "multiplier":
            return _multiplier(column, value)
        case "model_multipliers":
            return {checks.pattern(column, name): f"{_multiplier(f'{column}.{name}', given):f}" for name, given in value.items()}
        case "models":
            return checks.patterns(column, value)
        case "upstream_tags":
            return checked_tags(column, value)
        case _:
            return checks.limit(column, value)


def checked_tags(field: str, values: Sequence[str]) -> list[str]:
    if not 1 <= len(values) <= MOST_TAGS:
        raise UnacceptableValue(f"{field}: name 1 to {MOST_TAGS} tags; lift the restriction to allow all upstreams")
    return list(dict.fromkeys(checks.text(field, value, longest=LONGEST_TAG) for value in values))


def _multiplier(field: str, value: Any) -> Decimal:
    try:
        multiplier = Decimal(value)
    except (InvalidOperation, TypeError, ValueError):
        raise UnacceptableValue(f"{field}: must be a decimal number, such as 1.25") from None
    if not multiplier.is_finite() or not 0 <= multiplier <= LARGEST_MULTIPLIER or multiplier != round(multiplier, MULTIPLIER_DECIMALS):
        raise UnacceptableValue(f"{field}: must be from 0 to {LARGEST_MULTIPLIER}, with at most {MULTIPLIER_DECIMALS} decimals")
    return multiplier


def _taken(name: str) -> str:
    return f"There is a group {name!r} already. Change it (PATCH, or 'billing-proxy groups set'), or take another name."
