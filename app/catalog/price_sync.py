"""Bringing our prices up to the public list prices: what would change, and then just that.

Prices that an operator set, and limits that an operator gave a model, are left alone unless told otherwise. A plan is made
first and shown; `apply` makes it again, under a lock, and changes nothing where it comes out different.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.billing.price import Price
from app.catalog.price_catalogue import SOURCE, ListPrice, list_price, list_prices, provider_at, provider_ids
from app.catalog.prices import prices_in_force
from app.errors import Conflict, UnacceptableValue
from app.ledger.audit_entries import record_all
from app.models import Model, ModelPrice, ModelRoute, Upstream

OPERATOR = "operator"
LONGEST_SOURCE = 50
TURN = 0x70726963
"""The advisory lock of whoever changes prices by the catalogue."""
LARGEST_FACTOR = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class Served:
    """What the upstreams of one provider serve: pattern -> the provider's own name, None where the name goes on as it came."""

    provider: str
    models: Mapping[str, str | None]

    def serves(self, name: str) -> bool:
        return name in self.models or any(name.startswith(pattern[:-1]) for pattern in self.models if pattern.endswith("*"))


@dataclass(frozen=True, slots=True)
class PriceChange:
    """`old` None: the model has no price now. Both as `Price.as_written` has them."""

    model: str
    state: Literal["new", "changed", "operator"]
    old: dict[str, Any] | None
    new: dict[str, Any]


@dataclass(frozen=True, slots=True)
class LimitChange:
    model: str
    old: int | None
    context_tokens: int


@dataclass(frozen=True, slots=True)
class Plan:
    """`prices` are to be written, `kept` are an operator's own that differ from the list, `same` prices stay as they are."""

    source: str
    prices: tuple[PriceChange, ...]
    kept: tuple[PriceChange, ...]
    same: int
    limits: tuple[LimitChange, ...]

    @property
    def is_empty(self) -> bool:
        return not self.prices and not self.limits


@dataclass(frozen=True, slots=True)
class Factor:
    """From US dollars to the installation's currency, and from cost to price. Raises `UnacceptableValue`."""

    rate: Decimal | None
    markup: Decimal | None

    @classmethod
    def parse(cls, *, rate: str | None, markup: str | None, currency: str) -> "Factor":
        if currency != "USD" and rate is None:
            raise UnacceptableValue(f"the catalogue's prices are in USD and CURRENCY is {currency}: say what a USD costs, as in --rate 7.1")
        return cls(positive("--rate", rate), positive("--markup", markup))

    @property
    def value(self) -> Decimal:
        return (self.rate or Decimal(1)) * (self.markup or Decimal(1))

    @property
    def source(self) -> str:
        """What `model_price.source` says of a price: the catalogue's version, and what it was multiplied by."""
        named = (("rate", self.rate), ("markup", self.markup))
        source = " ".join([SOURCE, *(f"{name} {factor:f}" for name, factor in named if factor is not None)])
        if len(source) > LONGEST_SOURCE:
            raise UnacceptableValue("--rate and --markup have too many digits to be kept with each price; round them")
        return source


def known(providers: Sequence[str]) -> list[str]:
    """Raises `UnacceptableValue` for one that the catalogue doesn't know."""
    unknown = [provider for provider in providers if provider not in provider_ids()]
    if unknown:
        raise UnacceptableValue(f"the catalogue knows no provider {unknown[0]!r}; it knows {', '.join(provider_ids())}")
    return list(dict.fromkeys(providers))


async def served(session: AsyncSession) -> list[Served]:
    """By provider that the catalogue knows; first whose upstream is tried first."""
    query = (
        select(Upstream.base_url, ModelRoute.pattern, ModelRoute.upstream_model)
        .join(ModelRoute, ModelRoute.upstream_id == Upstream.id)
        .where(Upstream.disabled_at.is_(None))
        .order_by(ModelRoute.priority, Upstream.id, ModelRoute.id)
    )
    found: dict[str, dict[str, str | None]] = {}
    for base_url, pattern, upstream_model in await session.execute(query):
        if provider := provider_at(base_url):
            found.setdefault(provider, {}).setdefault(pattern, upstream_model)
    return [Served(provider, models) for provider, models in found.items()]


def wanted(of_upstreams: Sequence[Served], providers: Sequence[str], *, prefix: str, pattern: str, factor: Factor) -> dict[str, ListPrice]:
    """Our name -> list price. Of `providers` all that they have; where none is named, what the upstreams serve. `prefix` is put
    before the names that the catalogue has. Where two providers have a name, the first one's price is taken."""
    by_provider = {one.provider: one for one in of_upstreams}
    found: dict[str, ListPrice] = {}
    for provider in providers or by_provider:
        routes = by_provider.get(provider, Served(provider, {}))
        for price in (*_named(routes), *_listed(provider, prefix)):
            if (providers or routes.serves(price.model_name)) and fits(price.model_name, pattern):
                found.setdefault(price.model_name, price.times(factor.value))
    return found


async def plan(session: AsyncSession, prices: Mapping[str, ListPrice], *, source: str, overwrite: bool) -> Plan:
    """Raises `UnacceptableValue` where a rate becomes too large to be kept."""
    current = {price.model_name: price for price in await prices_in_force(session, names=list(prices))}
    changes: list[PriceChange] = []
    kept: list[PriceChange] = []
    same = 0
    for name in sorted(prices):
        new, old = _written(prices[name]), current.get(name)
        was = None if old is None else {"rates": old.rates, "tiers": old.tiers, "service_tiers": old.service_tiers}
        if was is not None and flat(was) == flat(new):
            same += 1
        elif old is not None and old.source == OPERATOR and not overwrite:
            kept.append(PriceChange(name, "operator", was, new))
        else:
            changes.append(PriceChange(name, "new" if was is None else "changed", was, new))
    limits = await _limits(session, prices, overwrite=overwrite)
    return Plan(source, tuple(changes), tuple(kept), same, limits)


async def apply(session: AsyncSession, shown: Plan, prices: Mapping[str, ListPrice], *, overwrite: bool) -> None:
    """Raises `Conflict` where what there is has changed since the plan was made."""
    await session.execute(select(func.pg_advisory_xact_lock(TURN)))
    if await plan(session, prices, source=shown.source, overwrite=overwrite) != shown:
        raise Conflict("Prices or limits changed since this list was made. Nothing was written: run it again.", code="changed_meanwhile")
    every = {"tiers": None, "service_tiers": None, "source": shown.source}
    if shown.prices:
        await session.execute(insert(ModelPrice), [{"model_name": change.model, **every, **change.new} for change in shown.prices])
        written = [(change.model, change.old, {**change.new, "source": shown.source}) for change in shown.prices]
        await record_all(session, "price.set", "price", written)
    if shown.limits:
        statement = insert(Model)
        set_anew = {"context_tokens": statement.excluded.context_tokens}
        limits = [{"name": limit.model, "context_tokens": limit.context_tokens} for limit in shown.limits]
        await session.execute(statement.on_conflict_do_update(constraint="uq_model_name", set_=set_anew), limits)
        tokens = [(limit.model, {"context_tokens": limit.old}, {"context_tokens": limit.context_tokens}) for limit in shown.limits]
        await record_all(session, "model.change", "model", tokens)


def flat(price: Mapping[str, Any]) -> dict[str, Decimal]:
    """Each rate of a written price under one name, such as `input`, `flex output` or `input above 200000`."""
    found = {meter: Decimal(rate) for meter, rate in price["rates"].items()}
    found |= _of_services(price.get("service_tiers"), "")
    for tier in price.get("tiers") or ():
        above = f" above {tier['above_input_tokens']}"
        found |= {meter + above: Decimal(rate) for meter, rate in tier["rates"].items()}
        found |= _of_services(tier.get("service_tiers"), above)
    return found


def _of_services(service_tiers: Mapping[str, Mapping[str, str]] | None, above: str) -> dict[str, Decimal]:
    return {f"{name} {meter}{above}": Decimal(rate) for name, rates in (service_tiers or {}).items() for meter, rate in rates.items()}


def _named(routes: Served) -> Iterable[ListPrice]:
    """Models that a route names: under our name, the price of what it goes on as."""
    for name, theirs in routes.models.items():
        if not name.endswith("*") and (price := list_price(routes.provider, theirs or name)):
            yield price.named(name)


def _listed(provider: str, prefix: str) -> Iterable[ListPrice]:
    return (price.named(prefix + price.model_name) for price in list_prices(provider))


def fits(name: str, pattern: str) -> bool:
    """`pattern`: a name, or a prefix that ends in `*`."""
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def _written(price: ListPrice) -> dict[str, Any]:
    try:
        parsed = Price.parse(id=None, model_name=price.model_name, rates=price.rates, tiers=price.tiers, service_tiers=price.service_tiers)
    except ValueError as invalid:
        raise UnacceptableValue(f"{price.model_name}: {invalid}") from None
    return parsed.as_written()


async def _limits(session: AsyncSession, prices: Mapping[str, ListPrice], *, overwrite: bool) -> tuple[LimitChange, ...]:
    listed = {name: price.context_tokens for name, price in sorted(prices.items()) if price.context_tokens}
    rows = await session.execute(select(Model.name, Model.context_tokens).where(Model.name.in_(listed)))
    ours = {row.name: row.context_tokens for row in rows}
    return tuple(
        LimitChange(name, ours.get(name), tokens)
        for name, tokens in listed.items()
        if ours.get(name) is None or (overwrite and ours[name] != tokens)
    )


def positive(name: str, text: str | None) -> Decimal | None:
    """What prices are multiplied by, as a command line has it under `name`. Raises `UnacceptableValue`."""
    if text is None:
        return None
    try:
        factor = Decimal(text)
    except InvalidOperation:
        factor = Decimal(0)
    if not factor.is_finite() or not 0 < factor <= LARGEST_FACTOR:
        raise UnacceptableValue(f"{name}: must be a decimal number above 0 and up to {LARGEST_FACTOR:,}, such as 7.1")
    return factor
