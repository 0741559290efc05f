"""Public list prices of well-known providers, from the installed `genai-prices` package. In US dollars.

They seed our own table, which is the authority: see `catalog.prices`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from importlib.metadata import version
from typing import Any

from genai_prices.data import providers
from genai_prices.types import ClauseEquals, ClauseOr, ModelInfo, ModelPrice, TieredPrices

from app.billing.rates import RATE_DECIMALS

SOURCE = f"genai-prices {version('genai-prices')}"
_METERS = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "output_reasoning_mtok": "reasoning",
    "input_audio_mtok": "audio_input",
    "output_audio_mtok": "audio_output",
    "input_image_mtok": "image_input",
    "output_image_mtok": "image_output",
}


@dataclass(frozen=True, slots=True)
class ListPrice:
    """`rates` and `tiers` as `billing.price.Price.parse` takes them."""

    model_name: str
    rates: dict[str, str]
    tiers: list[dict[str, Any]] | None


def list_prices(provider_id: str) -> Iterator[ListPrice]:
    """What the provider's models cost today, under each of their exact names. Models without token rates are left out."""
    provider = next(provider for provider in providers if provider.id == provider_id)
    for model in provider.models:
        rates, tiers = _rates(_dearest_today(model))
        if "input" in rates:
            for name in _names(model):
                yield ListPrice(name, rates, tiers)


def _names(model: ModelInfo) -> set[str]:
    clauses = model.match.or_ if isinstance(model.match, ClauseOr) else [model.match]
    return {model.id, *(clause.equals for clause in clauses if isinstance(clause, ClauseEquals))}


def _dearest_today(model: ModelInfo) -> ModelPrice:
    """Some providers price by the hour of the day; our table doesn't, so it gets the dearest."""
    midnight = datetime.combine(datetime.now(UTC).date(), time(), UTC)
    during_the_day = [model.get_prices(midnight + timedelta(hours=hour, minutes=45)) for hour in range(24)]
    return max(during_the_day, key=lambda price: Decimal(_rates(price)[0].get("output", 0)) + Decimal(_rates(price)[0].get("input", 0)))


def _rates(price: ModelPrice) -> tuple[dict[str, str], list[dict[str, Any]] | None]:
    rates: dict[str, str] = {}
    tiers: dict[int, dict[str, str]] = {}
    for field, meter in _METERS.items():
        value = getattr(price, field, None)
        if isinstance(value, TieredPrices):
            rates[meter] = _text(value.base)
            for tier in value.tiers:
                tiers.setdefault(tier.start, {})[meter] = _text(tier.price)
        elif value is not None:
            rates[meter] = _text(value)
    if price.requests_kcount is not None and not isinstance(price.requests_kcount, TieredPrices):
        rates["request"] = _text(price.requests_kcount / 1000)
    return rates, [{"above_input_tokens": start, "rates": tiers[start]} for start in sorted(tiers)] or None


def _text(rate: Decimal) -> str:
    """Some of the catalogue's rates are thirds and the like, with more decimals than a rate may have here."""
    return f"{round(rate, RATE_DECIMALS):f}"
