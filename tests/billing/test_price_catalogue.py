"""Prices that were seeded from the catalogue cost what the catalogue says, at every context size and service tier."""

from collections.abc import Iterator
from decimal import Decimal

import pytest
from genai_prices.data import providers
from genai_prices.types import ClauseEquals, ConditionalPrice, ModelInfo, ModelPrice, PriceVariant, Provider, TimeOfDateConstraint, Usage

from app.billing.price import Price
from app.catalog.price_catalogue import ListPrice, list_price, list_prices, provider_at

METERS = {"input": 7000, "cache_read": 11000, "output": 13000}
WITH_TIERS = ("openai", "anthropic", "google", "groq", "mistral", "x-ai")


def models() -> Iterator[tuple[Provider, ModelInfo]]:
    """Each model with tiers of either kind, save those whose price depends on the hour."""
    for provider in (provider for provider in providers if provider.id in WITH_TIERS):
        for model in provider.models:
            listed = list_price(provider.id, model.id)
            is_hourly = not isinstance(model.prices, ModelPrice) and any(
                isinstance(one.constraint, TimeOfDateConstraint) for one in model.prices
            )
            if listed and listed.model_name == model.id and not is_hourly and (listed.tiers or listed.service_tiers):
                yield provider, model


@pytest.mark.parametrize("base", [0, 1_000_000])
def test_all_sizes_and_tiers_cost_what_the_catalogue_says(base: int) -> None:
    compared = 0
    for provider, model in models():
        price = parsed(list_price(provider.id, model.id))
        for tier in (None, *price.service_tiers):
            meters = METERS | {"input": METERS["input"] + base}
            whole = meters["input"] + meters["cache_read"]
            theirs = Usage(input_tokens=whole, cache_read_tokens=meters["cache_read"], output_tokens=meters["output"])
            key = "speed" if provider.id == "anthropic" else "service_tier"
            calculated = model.calc_price(theirs, provider, price_context={key: tier} if tier else None).total_price

            charge = price.charge(meters, input_tokens=whole, service_tier=tier)

            assert charge.amount == round(calculated, 10), (provider.id, model.id, tier)
            compared += 1
    assert compared > 100


def test_rates_go_into_another_currency_whole_and_at_each_tier() -> None:
    listed = next(price for price in list_prices("openai") if price.tiers and price.tiers[0].get("service_tiers") and price.service_tiers)
    price, dearer = parsed(listed), parsed(listed.times(Decimal("8.52")))

    for size in (1, 1_000_000):
        for tier in (None, "flex", "priority"):
            for meter, rate in price.rates_at(size, tier).items():
                assert dearer.rates_at(size, tier)[meter] == round(rate * Decimal("8.52"), 10)


def test_a_second_name_of_a_tier_and_what_is_no_tier_are_left_out() -> None:
    cheap, dear = ModelPrice(input_mtok=Decimal(1)), ModelPrice(input_mtok=Decimal(9))
    model = ModelInfo(
        id="model",
        match=ClauseEquals(equals="model"),
        prices=[ConditionalPrice(prices=ModelPrice(input_mtok=Decimal(5), output_mtok=Decimal(6)))],
        price_variants=[
            PriceVariant(when={"processing": "batch"}, prices=cheap),
            PriceVariant(when={"service_tier": "default"}, prices=dear),
            PriceVariant(when={"service_tier": "priority"}, prices=dear),
            PriceVariant(when={"service_tier": "fast"}, prices=dear),
            PriceVariant(when={"service_tier": "flex", "route": "eu"}, prices=cheap),
        ],
    )
    made = Provider(id="made-up", name="Made up", api_pattern="https://made\\.up", models=[model])
    providers.append(made)
    try:
        listed = list_price("made-up", "model")
    finally:
        providers.remove(made)

    assert listed is not None
    assert (listed.rates, listed.service_tiers) == ({"input": "5", "output": "6"}, {"priority": {"input": "9"}})


def test_what_is_told_by_the_second_or_the_letter_is_priced_so() -> None:
    whisper, tts = list_price("openai", "whisper-1"), list_price("openai", "tts-1")

    assert whisper is not None
    assert tts is not None
    assert (whisper.rates, tts.rates) == ({"second": "0.0001"}, {"character": "0.000015"})


def test_a_provider_is_known_by_its_address() -> None:
    assert provider_at("https://api.openai.com/v1") == "openai"
    assert provider_at("https://generativelanguage.googleapis.com/v1beta/openai") == "google"
    assert provider_at("http://127.0.0.1:11434/v1") is None


def parsed(listed: ListPrice | None) -> Price:
    assert listed is not None
    return Price.parse(id=None, model_name=listed.model_name, rates=listed.rates, tiers=listed.tiers, service_tiers=listed.service_tiers)
