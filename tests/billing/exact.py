"""What a usage costs, computed once more and in another way: fractions, and each meter's chain of rates spelt out.

Nothing here is taken from `app.billing`, so that a fault there isn't repeated here.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from math import floor

from app.billing.price import Price

Rates = Mapping[str, str]

INPUT_KINDS = ("input", "cache_read", "cache_write", "cache_write_1h", "audio_input", "image_input")
OUTPUT_KINDS = ("output", "reasoning", "audio_output", "image_output")
EACH = ("request", "image", "second", "character", "web_search")
CHAINS = {
    "input": ("input",),
    "cache_read": ("cache_read", "input"),
    "cache_write": ("cache_write", "input"),
    "cache_write_1h": ("cache_write_1h", "cache_write", "input"),
    "audio_input": ("audio_input", "input"),
    "image_input": ("image_input", "input"),
    "output": ("output",),
    "reasoning": ("reasoning", "output"),
    "audio_output": ("audio_output", "output"),
    "image_output": ("image_output", "output"),
} | {meter: (meter,) for meter in EACH}
LARGEST = Decimal(99999999)


def price(rates: Rates, *tiers: tuple[int, Rates]) -> Price:
    """`tiers`: (input tokens above which they hold, rates)."""
    steps = [{"above_input_tokens": above, "rates": tier_rates} for above, tier_rates in tiers]
    return Price.parse(id=1, model_name="model", rates=rates, tiers=steps or None)


def rate(meter: str, rates: Rates) -> Fraction:
    return next((Fraction(rates[name]) for name in CHAINS[meter] if name in rates), Fraction(0))


def rates_for(input_tokens: int, rates: Rates, tiers: Sequence[tuple[int, Rates]]) -> Rates:
    reached = [(above, tier_rates) for above, tier_rates in tiers if input_tokens > above]
    return {**rates, **max(reached, key=lambda tier: tier[0])[1]} if reached else rates


def cost(meters: Mapping[str, int], rates: Rates, multiplier: str = "1") -> Decimal:
    """To 10 decimals, half up, and no more than what one row holds."""
    total = sum((count * rate(meter, rates) / (1 if meter in EACH else 1_000_000) for meter, count in meters.items()), Fraction(0))
    if "request" in rates:
        total += Fraction(rates["request"])
    units = floor(total * Fraction(multiplier) * 10**10 + Fraction(1, 2))
    return min(Decimal(units).scaleb(-10), LARGEST)
