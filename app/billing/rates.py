"""Rates: what a unit of each meter costs, and which rate stands in for one that is missing.

An image's meter may name its quality and its size (`image:high:1024x1024`). Its rate is that of both, else that of its size,
else that of its quality, else `image`.
"""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation

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
EACH = frozenset({"request", "image", "second", "character", "search", "web_search"})
_QUALITY = re.compile(r"[a-z]{1,20}", re.ASCII)
_SIZE = re.compile(r"[1-9]\d{0,4}x[1-9]\d{0,4}", re.ASCII)
_IMAGE = re.compile(f"image(:{_QUALITY.pattern})?(:{_SIZE.pattern})?", re.ASCII)
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

INPUT_KINDS = frozenset({"input", "cache_read", "cache_write", "cache_write_1h", "audio_input", "image_input"})
OUTPUT_KINDS = frozenset({"output", "reasoning", "audio_output", "image_output"})
TEXT_KINDS = frozenset({"input", "cache_read", "cache_write", "output", "reasoning"})
"""The token meters that a call of text alone can raise."""


def rate_of(meter: str, rates: Mapping[str, Decimal]) -> tuple[Decimal, str | None]:
    """The rate that applies, and the meter that it is the rate of; None where there is none."""
    name: str | None = meter
    while name is not None:
        if name in rates:
            return rates[name], name
        name = FALLBACK.get(name)
    return next(((rates[wider], wider) for wider in _wider(meter) if wider in rates), (Decimal(0), None))


def is_each(meter: str) -> bool:
    """Priced one by one, and not per 1,000,000."""
    return meter in EACH or meter.startswith("image:")


def is_silent(meter: str) -> bool:
    """Whether another meter's rate may stand in without a word."""
    return meter in SILENT_FALLBACK or meter.startswith("image:")


def image_meter(quality: object, size: object) -> str:
    """The most precise one that what is known of an image allows; `auto` is as good as nothing."""
    named = ["image"]
    if isinstance(quality, str) and quality != "auto" and _QUALITY.fullmatch(quality):
        named.append(quality)
    if isinstance(size, str) and _SIZE.fullmatch(size):
        named.append(size)
    return ":".join(named)


def _wider(meter: str) -> list[str]:
    """Of an image whose size or quality has no rate of its own."""
    if not meter.startswith("image:"):
        return []
    named = meter.split(":")[1:]
    return [*(f"image:{part}" for part in reversed(named)), "image"]


def dearest_unit(meter: str, rates: Mapping[str, Decimal]) -> Decimal:
    """The most that one can cost. The quality and size that a request leaves open are the upstream's to choose."""
    rate, _ = rate_of(meter, rates)
    if meter.partition(":")[0] != "image" or meter.count(":") == 2:
        return rate
    return max(rate, *(other for name, other in rates.items() if name.partition(":")[0] == "image"), Decimal(0))


def _decimals(rate: Decimal) -> int:
    """Without the zeros at its end."""
    _, digits, exponent = rate.as_tuple()
    zeros = len(digits) - len("".join(map(str, digits)).rstrip("0"))
    return -int(exponent) - zeros if any(digits) else 0


def dearest(rates: Mapping[str, Decimal], kinds: frozenset[str]) -> Decimal:
    return max(rate_of(kind, rates)[0] for kind in kinds)


def dearest_tables(tables: Sequence[Mapping[str, Decimal]]) -> list[Mapping[str, Decimal]]:
    """Those that cost the most of some meter: without each that another one is as dear as throughout."""
    kept: list[Mapping[str, Decimal]] = []
    for table in tables:
        if not any(_covers(other, table) for other in kept):
            kept = [other for other in kept if not _covers(table, other)] + [table]
    return kept


def _covers(dear: Mapping[str, Decimal], cheap: Mapping[str, Decimal]) -> bool:
    return all(rate_of(meter, dear)[0] >= rate_of(meter, cheap)[0] for meter in PER_MILLION | EACH | dear.keys() | cheap.keys())


def parse_rates(rates: Mapping[str, str]) -> dict[str, Decimal]:
    if not rates:
        raise ValueError('`rates` is empty: give at least one, such as {"input": "0.15", "output": "0.60"}')
    parsed = {}
    for meter, text in rates.items():
        if meter not in PER_MILLION and meter not in EACH and not _IMAGE.fullmatch(meter):
            known = f"{', '.join(sorted(PER_MILLION | EACH))}, and images of a quality or size, as in image:high:1024x1024"
            raise ValueError(f"{meter!r} is no meter; known are {known}")
        try:
            rate = Decimal(text if str(text).isascii() and "_" not in str(text) else "")
        except (InvalidOperation, TypeError, ValueError):
            raise ValueError(f"the rate of {meter} is no decimal number: {text!r}") from None
        if not rate.is_finite() or not 0 <= rate <= LARGEST_RATE:
            raise ValueError(f"the rate of {meter} must be from 0 to {LARGEST_RATE:,}")
        if _decimals(rate) > RATE_DECIMALS:
            raise ValueError(f"the rate of {meter} has more than {RATE_DECIMALS} decimals")
        parsed[meter] = rate or Decimal(0)  # a zero may have an exponent without end
    return parsed


def plain(rates: Mapping[str, Decimal]) -> dict[str, str]:
    return {meter: f"{rate:f}" for meter, rate in rates.items()}
