"""What a usage costs: pure arithmetic, `Decimal` only.

A price has a rate for each meter. Token meters are priced per 1,000,000, the others each. Rates that are missing fall
back: cached and written input to `input`, reasoning to `output`, as those are what providers charge that don't
distinguish them. Any other meter without a rate is billed as the text of its side where it counts tokens, else not at
all, and named in `Charge.unpriced`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from typing import Any, Self

from app.billing.usage import LARGEST_COUNT

PER_MILLION = frozenset(
    {
        "input",
        "output",
        "cache_read",
        "cache_write",
        "cache_write_1h",
        "reasoning",
        "audio_input",
        "audio_output",
        "image_input",
        "image_output",
    }
)
EACH = frozenset({"request", "image", "second", "character", "web_search"})
FALLBACK = {
    "cache_read": "input",
    "cache_write": "input",
    "cache_write_1h": "cache_write",
    "reasoning": "output",
    "audio_input": "input",
    "image_input": "input",
    "audio_output": "output",
    "image_output": "output",
}
SILENT_FALLBACK = frozenset({"cache_read", "cache_write", "cache_write_1h", "reasoning"})
LARGEST_RATE = Decimal(10_000_000)
RATE_DECIMALS = 10
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


_INPUT_KINDS = frozenset({"input", "cache_read", "cache_write", "cache_write_1h", "audio_input", "image_input"})
_OUTPUT_KINDS = frozenset({"output", "reasoning", "audio_output", "image_output"})
TEXT_KINDS = frozenset({"input", "cache_read", "cache_write", "output", "reasoning"})
"""The token meters that a call of text alone can raise."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What a call can use at most: tokens of input and output, and the kinds of tokens that they may be."""

    input_tokens: int
    output_tokens: int
    kinds: frozenset[str] = TEXT_KINDS


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
            steps.append((above, _parse_rates(tier.get("rates") or {})))
        steps.sort(key=lambda step: step[0])
        return cls(id=id, model_name=model_name, rates=_parse_rates(rates), tiers=tuple(steps))

    def rates_at(self, input_tokens: int) -> Mapping[str, Decimal]:
        """The base rates, overridden by those of the highest tier that the input reaches."""
        rates = self.rates
        for above, tier_rates in self.tiers:
            if input_tokens > above:
                rates = {**self.rates, **tier_rates}
        return rates

    def charge(self, meters: Mapping[str, int], *, input_tokens: int, multiplier: Decimal = Decimal(1)) -> Charge:
        """`meters`: disjoint quantities, as `Usage.meters` gives them; `request` is counted here."""
        rates = self.rates_at(input_tokens)
        items = []
        unpriced = []
        total = Decimal(0)
        for meter, quantity in ({**meters, "request": 1} if "request" in rates else meters).items():
            rate, source = _rate_of(meter, rates)
            if source is None or (source != meter and meter not in SILENT_FALLBACK):
                unpriced.append(meter)
            per = 1 if meter in EACH else 1_000_000
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
        """What a call costs by its output tokens, at each tier in reach."""
        reachable = [self.rates, *(self.rates_at(above + 1) for above, _ in self.tiers if bound.input_tokens > above)]
        return [
            _Line(
                (bound.input_tokens * _dearest(rates, bound.kinds & _INPUT_KINDS | {"input"})).scaleb(-6)
                + rates.get("request", Decimal(0)),
                _dearest(rates, bound.kinds & _OUTPUT_KINDS | {"output"}),
            )
            for rates in reachable
        ]

    def as_json(self) -> dict[str, Any]:
        """As it is kept on rows and holds, so that a bill can be explained after the price has changed."""
        tiers = [{"above_input_tokens": above, "rates": _plain(rates)} for above, rates in self.tiers]
        return {"id": self.id, "model_name": self.model_name, "rates": _plain(self.rates)} | ({"tiers": tiers} if tiers else {})


def _rate_of(meter: str, rates: Mapping[str, Decimal]) -> tuple[Decimal, str | None]:
    """The rate that applies, and the meter that it is the rate of; None where there is none."""
    name: str | None = meter
    while name is not None:
        if name in rates:
            return rates[name], name
        name = FALLBACK.get(name)
    return Decimal(0), None


def _rounded(amount: Decimal) -> Decimal:
    return amount.quantize(CHARGE_UNIT, context=_EXACT)


def _decimals(rate: Decimal) -> int:
    """Without the zeros at its end."""
    _, digits, exponent = rate.as_tuple()
    zeros = len(digits) - len("".join(map(str, digits)).rstrip("0"))
    return -int(exponent) - zeros if any(digits) else 0


def _dearest(rates: Mapping[str, Decimal], kinds: frozenset[str]) -> Decimal:
    return max(_rate_of(kind, rates)[0] for kind in kinds)


def _parse_rates(rates: Mapping[str, str]) -> dict[str, Decimal]:
    if not rates:
        raise ValueError('`rates` is empty: give at least one, such as {"input": "0.15", "output": "0.60"}')
    parsed = {}
    for meter, text in rates.items():
        if meter not in PER_MILLION and meter not in EACH:
            raise ValueError(f"{meter!r} is no meter; known are {', '.join(sorted(PER_MILLION | EACH))}")
        try:
            rate = Decimal(text)
        except (InvalidOperation, TypeError, ValueError):
            raise ValueError(f"the rate of {meter} is no decimal number: {text!r}") from None
        if not rate.is_finite() or not 0 <= rate <= LARGEST_RATE:
            raise ValueError(f"the rate of {meter} must be from 0 to {LARGEST_RATE:,}")
        if _decimals(rate) > RATE_DECIMALS:
            raise ValueError(f"the rate of {meter} has more than {RATE_DECIMALS} decimals")
        parsed[meter] = rate or Decimal(0)  # a zero may have an exponent without end
    return parsed


def _plain(rates: Mapping[str, Decimal]) -> dict[str, str]:
    return {meter: f"{rate:f}" for meter, rate in rates.items()}
