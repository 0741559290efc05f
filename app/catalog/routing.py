"""What operators defined, as the data plane reads it: routes, models and prices, in memory.

The whole catalog is one immutable `Snapshot`, replaced at once when the database's `catalog_version` has moved, whoever
moved it. A process sees its own changes at once (`refresh`), and those of others as the change feed tells it. While the
database is away the last snapshot stays.
"""

import asyncio
import bisect
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from operator import attrgetter
from typing import Any, Generic, TypeVar

import structlog
from sqlalchemy import Row, func, select

from app.billing.price import Price
from app.catalog.vault import Vault
from app.database import Database
from app.errors import ProxyError
from app.models import CatalogVersion, Model, ModelPrice, ModelRoute, Upstream, UpstreamPrice

log = structlog.get_logger(__name__)

_Key = TypeVar("_Key")


@dataclass(frozen=True, slots=True)
class Target:
    """An upstream as a call needs it. `secrets`, of which `secret` is the first, never leave the process but in the
    upstream's own header. `protocols` None: it speaks any. `first_byte_within`: seconds; None: as `FIRST_BYTE_WAIT` has it."""

    id: int
    name: str
    base_url: str
    auth: str
    is_local: bool
    stream_usage: str
    client_gone: str
    secret: str | None = field(repr=False)
    tags: frozenset[str] = frozenset()
    secrets: tuple[str, ...] = field(default=(), repr=False)
    protocols: frozenset[str] | None = None
    first_byte_within: float | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """`upstream_model` None: the model's name goes on as it came. `model_id` None: a wildcard."""

    target: Target
    pattern: str
    model_id: int | None
    upstream_model: str | None
    priority: int
    weight: int


@dataclass(frozen=True, slots=True)
class ModelLimits:
    context_tokens: int | None = None
    max_output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class DatedPrice:
    effective_from: datetime
    price: Price


@dataclass(frozen=True)
class Snapshot:
    """`targets`: all upstreams by their ids, disabled ones too, as they hold what was made there. `clock_ahead`: how far the
    database's clock, which dates prices, is ahead of this machine's."""

    version: int
    targets: dict[int, Target]
    named: dict[str, tuple[Route, ...]]
    wildcards: tuple[tuple[str, tuple[Route, ...]], ...]
    limits: dict[str, ModelLimits]
    prices: dict[str, tuple[DatedPrice, ...]]
    clock_ahead: timedelta = timedelta(0)
    upstream_prices: dict[tuple[int, str], tuple[DatedPrice, ...]] = field(default_factory=dict)

    def routes(self, model: str) -> tuple[Route, ...]:
        """The routes of the model's own name, else those of the longest wildcard that fits; by priority."""
        if named := self.named.get(model):
            return named
        return next((routes for prefix, routes in self.wildcards if model.startswith(prefix)), ())

    def price(self, model: str, *, at: datetime | None = None) -> Price | None:
        return self._in_force(self.prices.get(model, ()), at)

    def upstream_price(self, upstream_id: int, model: str) -> Price | None:
        """What the upstream charges the operator; None: not known."""
        return self._in_force(self.upstream_prices.get((upstream_id, model), ()), None)

    def _in_force(self, dated: Sequence[DatedPrice], at: datetime | None) -> Price | None:
        place = bisect.bisect_right(dated, at or datetime.now(UTC) + self.clock_ahead, key=attrgetter("effective_from"))
        return dated[place - 1].price if place else None

    def has_model(self, name: str) -> bool:
        """Whether it is one of `model_names`."""
        return name in self.named or (name in self.prices and bool(self.routes(name)))

    @cached_property
    def model_names(self) -> tuple[str, ...]:
        """Every name that can be called, sorted: those of routes, and the priced ones that a wildcard serves."""
        return tuple(sorted({*self.named, *(name for name in self.prices if self.routes(name))}))


_Row = Row[*tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class _Rows:
    version: int
    clock_ahead: timedelta
    upstreams: Sequence[_Row]
    routes: Sequence[_Row]
    models: Sequence[_Row]
    prices: Sequence[_Row]
    upstream_prices: Sequence[_Row]


EMPTY = Snapshot(-1, {}, {}, (), {}, {})
_UPSTREAMS, _ROUTES, _MODELS = select(*Upstream.__table__.c), select(*ModelRoute.__table__.c), select(*Model.__table__.c)
_PRICES = select(*ModelPrice.__table__.c).order_by(ModelPrice.effective_from)
_UPSTREAM_PRICES = select(*UpstreamPrice.__table__.c).order_by(UpstreamPrice.effective_from)

_Made = TypeVar("_Made")


class _MadeOfRows(Generic[_Made]):
    """What was made of each row, by its id. It is made anew where the row has changed: decrypting and parsing a large catalog
    takes longer than reading it."""

    def __init__(self, make: Callable[[_Row], _Made]) -> None:
        self._make = make
        self._made: dict[int, tuple[_Row, _Made]] = {}

    def of(self, rows: Sequence[_Row]) -> dict[int, _Made]:
        before = self._made
        self._made = {row.id: known if (known := before.get(row.id)) and known[0] == row else (row, self._make(row)) for row in rows}
        return {key: made for key, (_, made) in self._made.items()}


class Catalog:
    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault
        self.snapshot = EMPTY
        self._reading = asyncio.Lock()
        self._targets = _MadeOfRows(self._target)
        self._prices = _MadeOfRows(_dated_price)
        self._costs = _MadeOfRows(_dated_price)

    async def refresh(self) -> None:
        """Reads the catalog anew where its version has moved."""
        async with self._reading:
            rows = await self._changed()
            if rows is not None:
                self.snapshot = self._assemble(rows)

    async def _changed(self) -> _Rows | None:
        async with self._database.reading() as session:
            version, now = (await session.execute(select(CatalogVersion.version, func.clock_timestamp()))).one()
            if version == self.snapshot.version:
                return None
            return _Rows(
                version=version,
                clock_ahead=now - datetime.now(UTC),
                upstreams=(await session.execute(_UPSTREAMS)).all(),
                routes=(await session.execute(_ROUTES)).all(),
                models=(await session.execute(_MODELS)).all(),
                prices=(await session.execute(_PRICES)).all(),
                upstream_prices=(await session.execute(_UPSTREAM_PRICES)).all(),
            )

    def _assemble(self, rows: _Rows) -> Snapshot:
        targets = {key: target for key, target in self._targets.of(rows.upstreams).items() if target}
        enabled = {upstream.id for upstream in rows.upstreams if upstream.disabled_at is None}
        named, wildcards = _group(rows.routes, {key: target for key, target in targets.items() if key in enabled})
        prices = _lists(rows.prices, self._prices, lambda row: row.model_name)
        costs = _lists(rows.upstream_prices, self._costs, lambda row: (row.upstream_id, row.model_name))
        return Snapshot(rows.version, targets, named, wildcards, _limits(rows.models), prices, rows.clock_ahead, costs)

    def _target(self, upstream: _Row) -> Target | None:
        try:
            stored = [*([upstream.secret] if upstream.secret else ()), *(upstream.more_secrets or ())]
            secrets = tuple(map(self._vault.decrypt, stored))
        except ProxyError as unreadable:
            log.error("upstream is left out", upstream=upstream.name, reason=str(unreadable))
            return None
        return Target(
            id=upstream.id,
            name=upstream.name,
            base_url=upstream.base_url,
            auth=upstream.auth,
            is_local=upstream.is_local,
            stream_usage=upstream.stream_usage,
            client_gone=upstream.client_gone,
            secret=secrets[0] if secrets else None,
            tags=frozenset(upstream.tags or ()),
            secrets=secrets,
            protocols=None if upstream.protocols is None else frozenset(upstream.protocols),
            first_byte_within=upstream.first_byte_within,
        )


def _group(
    rows: Sequence[_Row], targets: dict[int, Target]
) -> tuple[dict[str, tuple[Route, ...]], tuple[tuple[str, tuple[Route, ...]], ...]]:
    by_pattern: defaultdict[str, list[Route]] = defaultdict(list)
    for row in rows:
        if target := targets.get(row.upstream_id):
            by_pattern[row.pattern].append(Route(target, row.pattern, row.model_id, row.upstream_model, row.priority, row.weight))
    named = {pattern: _by_priority(routes) for pattern, routes in by_pattern.items() if not pattern.endswith("*")}
    wildcards = [(pattern[:-1], _by_priority(routes)) for pattern, routes in by_pattern.items() if pattern.endswith("*")]
    return named, tuple(sorted(wildcards, key=lambda wildcard: -len(wildcard[0])))


def _by_priority(routes: list[Route]) -> tuple[Route, ...]:
    return tuple(sorted(routes, key=lambda route: (route.priority, route.target.id)))


def _limits(models: Sequence[_Row]) -> dict[str, ModelLimits]:
    return {model.name: ModelLimits(model.context_tokens, model.max_output_tokens) for model in models}


def _dated_price(row: _Row) -> DatedPrice | None:
    """None, and an error in the log, for a price that can't be read."""
    try:
        price = Price.parse(id=row.id, model_name=row.model_name, rates=row.rates, tiers=row.tiers, service_tiers=row.service_tiers)
    except ValueError as invalid:
        log.error("price is left out", model=row.model_name, price_id=row.id, reason=str(invalid))
        return None
    return DatedPrice(row.effective_from, price)


def _lists(
    rows: Sequence[_Row], parsed: _MadeOfRows[DatedPrice | None], key_of: Callable[[_Row], _Key]
) -> dict[_Key, tuple[DatedPrice, ...]]:
    """Of rows that come by date."""
    made = parsed.of(rows)
    lists: defaultdict[_Key, list[DatedPrice]] = defaultdict(list)
    for row in rows:
        if (price := made[row.id]) is not None:
            lists[key_of(row)].append(price)
    return {key: tuple(dated) for key, dated in lists.items()}
