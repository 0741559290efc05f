"""What a usage costs: pure arithmetic, `Decimal` only.

A price has a rate for each meter. Token meters are priced per 1,000,000, the others each. Rates that are missing fall
back: cached and written input to `input`, reasoning to `output`, as those are what providers charge that don't
distinguish them. Any other meter without a rate is billed as the text of its side where it counts tokens, else not at
all, and named in `Charge.unpriced`.

A usage may be told in tokens and in units (images, seconds, characters, searches), which measure the same. Its tokens are
billed where the price has rates for all of them, else its units.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any, Self

from app.billing.rates import (
    INPUT_KINDS,
    OUTPUT_KINDS,
    TEXT_KINDS,
    dearest,
    dearest_unit,
    is_each,
    is_silent,
    parse_rates,
    plain,
    rate_of,
)
from app.billing.usage import LARGEST_COUNT

CHARGE_UNIT = Decimal("1e-10")
_EXACT = Context(prec=80, rounding=ROUND_HALF_UP)
LARGEST_CHARGE = Decimal(99999999)
"""The largest charge of one call: what `bill` NUMERIC(12,4) holds."""


@dataclass(frozen=True, slots=True)
class LineItem:
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


@dataclass(frozen=True, slots=True)
class Charge:
    """`amount`: the sum of the items times the multiplier, to 10 decimals, half up."""

    amount: Decimal
    items: tuple[LineItem, ...]
    unpriced: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Bound:
    """What a call can use at most: tokens of input and output, and the kinds of tokens that they may be; and the units by
    which it may be billed in their stead."""

    input_tokens: int
    output_tokens: int
    kinds: frozenset[str] = TEXT_KINDS
    units: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Line:
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


@dataclass(frozen=True, slots=True)
class Price:
    """Rates in the currency of the installation. `tiers`: (input tokens above which they hold, rates), ascending."""

    id: int | None
    model_name: str
    rates: Mapping[str, Decimal]
    tiers: tuple[tuple[int, Mapping[str, Decimal]], ...] = ()

    @classmethod
    def parse(cls, *, id: int | None, model_name: str, rates: Mapping[str, str], tiers: Sequence[Mapping[str, Any]] | None) -> Self:
        """Raises `ValueError` for an unknown meter, or a rate that is no decimal from 0 to 10,000,000."""
        steps = []
        for tier in tiers or ():
            above = tier.get("above_input_tokens")
            if not isinstance(above, int) or isinstance(above, bool) or above <= 0:
                raise ValueError("a tier needs `above_input_tokens`, a number of tokens greater than 0")
            steps.append((above, parse_rates(tier.get("rates") or {})))
        steps.sort(key=lambda step: step[0])
        return cls(id=id, model_name=model_name, rates=parse_rates(rates), tiers=tuple(steps))

    def rates_at(self, input_tokens: int) -> Mapping[str, Decimal]:
        """The base rates, overridden by those of the highest tier that the input reaches."""
        rates = self.rates
        for above, tier_rates in self.tiers:
            if input_tokens > above:
                rates = {**self.rates, **tier_rates}
        return rates

    def has_rates_for(self, units: Mapping[str, int]) -> bool:
        return all(rate_of(unit, self.rates)[1] for unit in units)

    def charge(
        self, meters: Mapping[str, int], *, input_tokens: int, units: Mapping[str, int] | None = None, multiplier: Decimal = Decimal(1)
    ) -> Charge:
        """`meters`: disjoint quantities, as `Usage.meters` gives them; `units`: the same in another measure, as in
        `Usage.units`; `request` is counted here."""
        rates = self.rates_at(input_tokens)
        if units:
            meters = _billed(meters, units, rates)
        items = []
        unpriced = []
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
        """What a call costs by its output tokens, at each tier in reach; and what it costs by its units."""
        reachable = [self.rates, *(self.rates_at(above + 1) for above, _ in self.tiers if bound.input_tokens > above)]
        lines = []
        for rates in reachable:
            per_input = dearest(rates, bound.kinds & INPUT_KINDS | {"input"})
            per_output = dearest(rates, bound.kinds & OUTPUT_KINDS | {"output"})
            request = rates.get("request", Decimal(0))
            lines.append(_Line((bound.input_tokens * per_input).scaleb(-6) + request, per_output))
            if bound.units:
                units = sum((quantity * dearest_unit(unit, rates) for unit, quantity in bound.units.items()), Decimal(0))
                lines.append(_Line(units + request, Decimal(0)))
        return lines

    def as_json(self) -> dict[str, Any]:
        """As it is kept on rows and holds, so that a bill can be explained after the price has changed."""
        tiers = [{"above_input_tokens": above, "rates": plain(rates)} for above, rates in self.tiers]
        return {"id": self.id, "model_name": self.model_name, "rates": plain(self.rates)} | ({"tiers": tiers} if tiers else {})


def _billed(meters: Mapping[str, int], units: Mapping[str, int], rates: Mapping[str, Decimal]) -> Mapping[str, int]:
    """One of the two measures; both, so that what has no rate is told, where neither has one."""
    found = [rate_of(meter, rates) for meter in meters]
    if any(rate for rate, _ in found) and all(source for _, source in found):
        return meters
    counted = {unit: quantity for unit, quantity in units.items() if quantity}
    return counted if all(rate_of(unit, rates)[1] for unit in units) else {**meters, **counted}


def _rounded(amount: Decimal) -> Decimal:
    return amount.quantize(CHARGE_UNIT, context=_EXACT)
