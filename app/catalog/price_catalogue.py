"""Public list prices of well-known providers, from the installed `genai-prices` package. In US dollars.

They seed our own table, which is the authority: see `catalog.prices`. What the catalogue doesn't know, such as the most that
a model answers, is left to the operator.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from importlib import import_module
from importlib.metadata import version
from typing import Any

from genai_prices.types import ClauseEquals, ClauseOr, ModelInfo, ModelPrice, Provider, TieredPrices, TimeOfDateConstraint

from app.billing.rates import RATE_DECIMALS
from app.billing.service_tier import tier_named

SOURCE = f"genai-prices {version('genai-prices')}"
_METERS = {
    "input_mtok": ("input", 1),
    "output_mtok": ("output", 1),
    "cache_read_mtok": ("cache_read", 1),
    "cache_write_mtok": ("cache_write", 1),
    "cache_write_1h_mtok": ("cache_write_1h", 1),
    "output_reasoning_mtok": ("reasoning", 1),
    "input_audio_mtok": ("audio_input", 1),
    "output_audio_mtok": ("audio_output", 1),
    "input_image_mtok": ("image_input", 1),
    "output_image_mtok": ("image_output", 1),
    "web_searches_kcount": ("web_search", 1_000),
    "requests_kcount": ("request", 1_000),
    "input_mchars": ("character", 1_000_000),
    "audio_hours": ("second", 3_600),
    "input_audio_hours": ("second", 3_600),
}
"""The catalogue's field -> our meter, and how many of our units its rate is for."""
_PRICED_BY = frozenset({"input", "second", "character"})
"""A price has one of these, or the catalogue doesn't know what the model costs: what it has no rate for need not be free."""
_TIER_KEYS = frozenset({"service_tier", "speed"})
"""What of an answer names its tier. Prices by anything else are left out: no call that passes here is a batch."""

Rates = dict[str, str]


@dataclass(frozen=True, slots=True)
class ListPrice:
    """`rates`, `tiers` and `service_tiers` as `billing.price.Price.parse` takes them."""

    model_name: str
    rates: Rates
    tiers: list[dict[str, Any]] | None
    service_tiers: dict[str, Rates] | None
    context_tokens: int | None

    def named(self, model_name: str) -> "ListPrice":
        return replace(self, model_name=model_name)

    def times(self, factor: Decimal) -> "ListPrice":
        """In another currency, or with a markup."""
        return replace(
            self,
            rates=_times(self.rates, factor),
            tiers=self.tiers and [tier | {"rates": _times(tier["rates"], factor)} | _tiers_times(tier, factor) for tier in self.tiers],
            **_tiers_times({"service_tiers": self.service_tiers}, factor),
        )


def _providers() -> list[Provider]:
    """Loaded when first asked for: the server that starts needs none of it, and it takes 20 ms and 3 MiB."""
    listed: list[Provider] = import_module("genai_prices.data").providers
    return listed


def provider_ids() -> list[str]:
    return sorted(provider.id for provider in _providers())


def provider_at(base_url: str) -> str | None:
    """Whose prices hold at an upstream's address; None for one that the catalogue doesn't know."""
    return next((provider.id for provider in _providers() if re.match(provider.api_pattern, base_url)), None)


def list_prices(provider_id: str) -> Iterator[ListPrice]:
    """What the provider's models cost today, under each of their exact names. Models without rates are left out."""
    for model in _provider(provider_id).models:
        if price := _price_of(model):
            for name in _names(model):
                yield price.named(name)


def list_price(provider_id: str, name: str) -> ListPrice | None:
    """What the model costs that the provider serves by this name: dated and other forms of a name are known too."""
    model = _provider(provider_id).find_model(name)
    return None if model is None else _price_of(model)


def _provider(provider_id: str) -> Provider:
    return next(provider for provider in _providers() if provider.id == provider_id)


def _names(model: ModelInfo) -> list[str]:
    clauses = model.match.or_ if isinstance(model.match, ClauseOr) else [model.match]
    return sorted({model.id, *(clause.equals for clause in clauses if isinstance(clause, ClauseEquals))})


def _price_of(model: ModelInfo) -> ListPrice | None:
    moment = _dearest_moment(model)
    rates, steps = _rates(model.get_prices(moment))
    if _PRICED_BY.isdisjoint(rates):
        return None
    services, steps_of = _service_tiers(model, moment, (rates, steps))
    tiers: list[dict[str, Any]] = []
    for above in sorted({*steps, *(above for own in steps_of.values() for above in own)}):
        of_services = {name: own[above] for name, own in steps_of.items() if above in own}
        tier = {"above_input_tokens": above, "rates": steps.get(above, {})}
        tiers.append(tier | ({"service_tiers": of_services} if of_services else {}))
    return ListPrice(model.id, rates, tiers or None, services or None, model.context_window)


def _dearest_moment(model: ModelInfo) -> datetime:
    """Some providers price by the hour of the day; our table doesn't, so it gets the dearest of today's."""
    midnight = datetime.combine(datetime.now(UTC).date(), time(), UTC)
    if isinstance(model.prices, ModelPrice) or not any(isinstance(one.constraint, TimeOfDateConstraint) for one in model.prices):
        return midnight

    def cost(moment: datetime) -> Decimal:
        rates, _ = _rates(model.get_prices(moment))
        return Decimal(rates.get("output", 0)) + Decimal(rates.get("input", 0))

    return max((midnight + timedelta(hours=hour, minutes=45) for hour in range(24)), key=cost)


def _service_tiers(
    model: ModelInfo, moment: datetime, base: tuple[Rates, dict[int, Rates]]
) -> tuple[dict[str, Rates], dict[str, dict[int, Rates]]]:
    """Tier -> rates, and tier -> (input tokens above which others hold -> rates); of both what differs from the base."""
    whole: dict[str, Rates] = {}
    stepped: dict[str, dict[int, Rates]] = {}
    for variant in model.price_variants or ():
        name = tier_named(next(iter(variant.when.values())))
        if name is None or name in whole or not _TIER_KEYS.issuperset(variant.when) or len(variant.when) > 1:
            continue
        rates, steps = _rates(model.get_prices(moment, variant.when))
        own = {meter for meter in rates if _of_meter(meter, rates, steps) != _of_meter(meter, *base)}
        if own:
            whole[name] = {meter: rates[meter] for meter in rates if meter in own}
            kept = {above: {meter: rate for meter, rate in step.items() if meter in own} for above, step in steps.items()}
            stepped[name] = {above: step for above, step in kept.items() if step}
    if whole.get("fast") == whole.get("priority") and stepped.get("fast") == stepped.get("priority"):
        whole.pop("fast", None)  # a second name of the same, which answers don't tell
        stepped.pop("fast", None)
    return whole, stepped


def _of_meter(meter: str, rates: Rates, steps: dict[int, Rates]) -> tuple[str | None, dict[int, str]]:
    return rates.get(meter), {above: step[meter] for above, step in steps.items() if meter in step}


def _rates(price: ModelPrice) -> tuple[Rates, dict[int, Rates]]:
    rates: Rates = {}
    steps: dict[int, Rates] = {}
    for field, (meter, units) in _METERS.items():
        value = getattr(price, field, None)
        if isinstance(value, TieredPrices):
            rates[meter] = _text(value.base / units)
            for tier in value.tiers:
                steps.setdefault(tier.start, {})[meter] = _text(tier.price / units)
        elif value is not None:
            rates[meter] = _text(value / units)
    return rates, steps


def _tiers_times(written: dict[str, Any], factor: Decimal) -> dict[str, Any]:
    if not written.get("service_tiers"):
        return {}
    return {"service_tiers": {name: _times(rates, factor) for name, rates in written["service_tiers"].items()}}


def _times(rates: Rates, factor: Decimal) -> Rates:
    return {meter: _text(Decimal(rate) * factor) for meter, rate in rates.items()}


def _text(rate: Decimal) -> str:
    """Some of the catalogue's rates are thirds and the like, with more decimals than a rate may have here."""
    return f"{round(rate, RATE_DECIMALS).normalize():f}"
