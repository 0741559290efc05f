"""What a usage costs: pure arithmetic, `Decimal` only.

A price has a rate for each meter. Token meters are priced per 1,000,000, the others each. Rates that are missing fall
back: cached and written input to `input`, reasoning to `output`, as those are what providers charge that don't
distinguish them. Any other meter without a rate is billed as the text of its side where it counts tokens, else not at
all, and named in `Charge.unpriced`. So is a service tier that the price has no rates for: such a call is billed at the
base rates.

A usage may be told in tokens and in units (images, seconds, characters, searches), which measure the same. Its tokens are
billed where the price has rates for all of them, else its units.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any, NamedTuple, Self

from app.billing.rates import (
    INPUT_KINDS,
    OUTPUT_KINDS,
    TEXT_KINDS,
    dearest,
    dearest_tables,
    dearest_unit,
    is_each,
    is_silent,
    parse_rates,
    plain,
    rate_of,
)
from app.billing.service_tier import ANY, ServiceTier, is_reachable, parse_service_tiers, rates_above, service_tiers_as_json
from app.billing.usage import LARGEST_COUNT

CHARGE_UNIT = Decimal("1e-10")
_EXACT = Context(prec=80, rounding=ROUND_HALF_UP)
LARGEST_CHARGE = Decimal(99999999)
"""The largest charge of one call: what `bill` NUMERIC(12,4) holds."""


class LineItem(NamedTuple):
    """`amount` = `quantity` x `unit_price` / `per`, exact."""

    meter: str
    quantity: int
    unit_price: Decimal
    per: int
    amount: Decimal

    def as_json(self) -> dict[str, Any]:
        return {
            "meter": self.meter,
            "quantity": self.quantity,
            "unit_price": f"{self.unit_price:f}",
            "per": self.per,
            "amount": f"{self.amount:f}",
        }


class Charge(NamedTuple):
    """`amount`: the sum of the items times the multiplier, to 10 decimals, half up."""

    amount: Decimal
    items: tuple[LineItem, ...]
    unpriced: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Bound:
    """What a call can use at most: tokens of input and output, and the kinds of tokens that they may be; and the units by
    which it may be billed in their stead. `service_tier`: which one it asks for."""

    input_tokens: int
    output_tokens: int
    kinds: frozenset[str] = TEXT_KINDS
    service_tier: str = ANY
    units: Mapping[str, int] = field(default_factory=dict)


class _Line(NamedTuple):
    fixed: Decimal
    per_million_output: Decimal

    def at(self, output_tokens: int) -> Decimal:
        return self.fixed + (output_tokens * self.per_million_output).scaleb(-6)

    def reaches(self, available: Decimal | None) -> int:
        """The output tokens that `available` covers; None covers all."""
        if available is None or (self.per_million_output == 0 and available >= self.fixed):
            return LARGEST_COUNT
        if available < self.fixed:
            return 0
        return int((available - self.fixed).scaleb(6) / self.per_million_output)


class _Reach(NamedTuple):
    """Rates that may apply, and of them what a call's kinds of tokens cost at most."""

    rates: Mapping[str, Decimal]
    per_input: Decimal
    per_output: Decimal
    request: Decimal


@dataclass(frozen=True, slots=True)
class Price:
    """Rates in the currency of the installation. `tiers`: (input tokens above which they hold, rates), ascending.
    `service_tiers`: by the names that answers tell. `thresholds`: input tokens above which other rates hold at any of them,
    ascending."""

    id: int | None
    model_name: str
    rates: Mapping[str, Decimal]
    tiers: tuple[tuple[int, Mapping[str, Decimal]], ...] = ()
    service_tiers: Mapping[str, ServiceTier] = field(default_factory=dict)
    thresholds: tuple[int, ...] = field(init=False)
    _reached: dict[tuple[tuple[str, ...], int, frozenset[str]], Sequence[_Reach]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _kept: dict[str | None, Mapping[str, Any]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        of_services = {above for tier in self.service_tiers.values() for above, _ in tier.steps}
        object.__setattr__(self, "thresholds", tuple(sorted({above for above, _ in self.tiers} | of_services)))

    @classmethod
    def parse(
        cls,
        *,
        id: int | None,
        model_name: str,
        rates: Mapping[str, str],
        tiers: Sequence[Mapping[str, Any]] | None,
        service_tiers: Mapping[str, Mapping[str, str]] | None = None,
    ) -> Self:
        """Raises `ValueError` for an unknown meter, or a rate that is no decimal from 0 to 10,000,000. A context tier may have
        `service_tiers` too, and needs no `rates` then."""
        steps = []
        for tier in tiers or ():
            above = tier.get("above_input_tokens")
            if not isinstance(above, int) or isinstance(above, bool) or above <= 0:
                raise ValueError("a tier needs `above_input_tokens`, a number of tokens greater than 0")
            steps.append((above, tier))
        steps.sort(key=lambda step: step[0])
        return cls(
            id=id,
            model_name=model_name,
            rates=parse_rates(rates),
            tiers=tuple((above, parse_rates(tier.get("rates") or {})) for above, tier in steps if _has_rates(tier)),
            service_tiers=parse_service_tiers(service_tiers, [(above, tier.get("service_tiers")) for above, tier in steps]),
        )

    @classmethod
    def read(cls, kept: Mapping[str, Any]) -> Self:
        """What `as_json` or `as_written` wrote, with `id` and `model_name`."""
        return cls.parse(
            id=kept["id"],
            model_name=kept["model_name"],
            rates=kept["rates"],
            tiers=kept.get("tiers"),
            service_tiers=kept.get("service_tiers"),
        )

    def rates_at(self, input_tokens: int, service_tier: str | None = None) -> Mapping[str, Decimal]:
        """The base rates, overridden by those of the highest tier that the input reaches, and these by the service tier's."""
        rates = rates_above(self.rates, self.tiers, input_tokens)
        if service_tier is not None and (special := self.service_tiers.get(service_tier)):
            return {**rates, **rates_above(special.rates, special.steps, input_tokens)}
        return rates

    def has_rates_for(self, units: Mapping[str, int]) -> bool:
        return all(rate_of(unit, self.rates)[1] for unit in units)

    def charge(
        self,
        meters: Mapping[str, int],
        *,
        input_tokens: int,
        units: Mapping[str, int] | None = None,
        service_tier: str | None = None,
        multiplier: Decimal = Decimal(1),
    ) -> Charge:
        """`meters`: disjoint quantities, as `Usage.meters` gives them; `units`: the same in another measure, as in
        `Usage.units`; `request` is counted here. `service_tier`: at which the call ran; None: at the base rates."""
        rates = self.rates_at(input_tokens, service_tier)
        if units:
            meters = _billed(meters, units, rates)
        items = []
        unpriced = [f"service_tier:{service_tier}"] if service_tier is not None and service_tier not in self.service_tiers else []
        total = Decimal(0)
        for meter, quantity in ({**meters, "request": 1} if "request" in rates else meters).items():
            rate, source = rate_of(meter, rates)
            if source is None or (source != meter and not is_silent(meter)):
                unpriced.append(meter)
            per = 1 if is_each(meter) else 1_000_000
            amount = quantity * rate
            if per != 1:
                amount = amount.scaleb(-6)
            items.append(LineItem(meter, quantity, rate, per, amount))
            total += amount
        return Charge(min(_rounded(total * multiplier), LARGEST_CHARGE), tuple(items), tuple(unpriced))

    def ceiling(self, bound: Bound, *, multiplier: Decimal = Decimal(1)) -> Decimal:
        """The most that a call within `bound` can cost: at the dearest tier in reach and the dearest kind of token."""
        return _rounded(max(line.at(bound.output_tokens) for line in self._lines(bound)) * multiplier)

    def affordable_output(self, available: Decimal, bound: Bound, *, multiplier: Decimal = Decimal(1)) -> int:
        """The most output tokens, up to those of `bound`, with which its ceiling fits `available`; 0 if none does."""
        tokens = min(line.reaches(available / multiplier if multiplier else None) for line in self._lines(bound))
        tokens = max(0, min(tokens, bound.output_tokens))
        fits = self.ceiling(replace(bound, output_tokens=tokens), multiplier=multiplier) <= available
        return tokens if fits else max(0, tokens - 1)

    def _lines(self, bound: Bound) -> list[_Line]:
        """What a call costs by its output tokens, at each tier in reach, of context and of service; and what it costs by its
        units."""
        lines = []
        for reach in self._reachable(bound):
            lines.append(_Line((bound.input_tokens * reach.per_input).scaleb(-6) + reach.request, reach.per_output))
            if bound.units:
                units = sum((quantity * dearest_unit(unit, reach.rates) for unit, quantity in bound.units.items()), Decimal(0))
                lines.append(_Line(units + reach.request, Decimal(0)))
        return lines

    def _reachable(self, bound: Bound) -> Sequence[_Reach]:
        """The rates that may apply, without those that are nowhere dearer than others. Found once, as each call asks."""
        services = tuple(name for name in self.service_tiers if is_reachable(name, bound.service_tier))
        sizes = sum(bound.input_tokens > above for above in self.thresholds)
        found = self._reached.get((services, sizes, bound.kinds))
        if found is None:
            inputs = [0, *(above + 1 for above in self.thresholds[:sizes])]
            tables = dearest_tables([self.rates_at(size, service) for service in (None, *services) for size in inputs])
            found = self._reached[services, sizes, bound.kinds] = [_reach(rates, bound.kinds) for rates in tables]
        return found

    def as_json(self, service_tier: str | None = None) -> Mapping[str, Any]:
        """As it is kept on rows and holds, so that a bill can be explained after the price has changed. Of the service tiers
        the one whose rates applied, if any did. Written once, as each call asks."""
        applied = service_tier if service_tier in self.service_tiers else None
        if (kept := self._kept.get(applied)) is None:
            kept = self._kept[applied] = self._as_json(applied)
        return kept

    def _as_json(self, applied: str | None) -> dict[str, Any]:
        named = {"id": self.id, "model_name": self.model_name}
        if applied is not None:
            return named | {"service_tier": applied} | replace(self, service_tiers={applied: self.service_tiers[applied]}).as_written()
        tiers = [{"above_input_tokens": above, "rates": plain(rates)} for above, rates in self.tiers]
        return named | {"rates": plain(self.rates)} | ({"tiers": tiers} if tiers else {})

    def as_written(self) -> dict[str, Any]:
        """`rates`, and where there are some `tiers` and `service_tiers`, as `parse` takes them."""
        rates_of = dict(self.tiers)
        tiers = []
        for above in self.thresholds:
            by_service = service_tiers_as_json(self.service_tiers, above)
            tier = {"above_input_tokens": above, "rates": plain(rates_of.get(above, {}))}
            tiers.append(tier | ({"service_tiers": by_service} if by_service else {}))
        whole = service_tiers_as_json(self.service_tiers)
        return {"rates": plain(self.rates)} | ({"tiers": tiers} if tiers else {}) | ({"service_tiers": whole} if whole else {})


def _reach(rates: Mapping[str, Decimal], kinds: frozenset[str]) -> _Reach:
    per_input, per_output = dearest(rates, kinds & INPUT_KINDS | {"input"}), dearest(rates, kinds & OUTPUT_KINDS | {"output"})
    return _Reach(rates, per_input, per_output, rates.get("request", Decimal(0)))


def _has_rates(tier: Mapping[str, Any]) -> bool:
    """A context tier that only service tiers have needs none of its own."""
    return bool(tier.get("rates")) or not tier.get("service_tiers")


def _billed(meters: Mapping[str, int], units: Mapping[str, int], rates: Mapping[str, Decimal]) -> Mapping[str, int]:
    """One of the two measures; both, so that what has no rate is told, where neither has one."""
    found = [rate_of(meter, rates) for meter in meters]
    if any(rate for rate, _ in found) and all(source for _, source in found):
        return meters
    counted = {unit: quantity for unit, quantity in units.items() if quantity}
    return counted if all(rate_of(unit, rates)[1] for unit in units) else {**meters, **counted}


def _rounded(amount: Decimal) -> Decimal:
    return amount.quantize(CHARGE_UNIT, context=_EXACT)
