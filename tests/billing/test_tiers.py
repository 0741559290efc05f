"""Tiers: the rates of the highest step that the whole input is above, and the base rates for what a step doesn't name."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.billing.exact import price
from tests.billing.strategies import Tariff, tariffs

TIERED = price(
    {"input": "1", "output": "10", "cache_read": "0.1"},
    (200_000, {"input": "2", "output": "15"}),
    (1_000_000, {"input": "4"}),
)


@pytest.mark.parametrize(
    ("input_tokens", "rate"),
    [(0, "1"), (199_999, "1"), (200_000, "1"), (200_001, "2"), (1_000_000, "2"), (1_000_001, "4"), (2_000_000_000, "4")],
)
def test_a_tier_applies_above_its_step_and_not_at_it(input_tokens: int, rate: str) -> None:
    assert TIERED.rates_at(input_tokens)["input"] == Decimal(rate)


def test_all_tokens_are_at_the_rate_of_the_tier_not_only_those_above_the_step() -> None:
    assert TIERED.charge({"input": 200_001}, input_tokens=200_001).amount == Decimal("0.400002")


def test_the_whole_input_chooses_the_tier_and_not_its_uncached_part() -> None:
    charge = TIERED.charge({"input": 1, "cache_read": 200_000, "output": 1000}, input_tokens=200_001)

    assert charge.amount == Decimal("0.000002") + Decimal("0.02") + Decimal("0.015")


def test_what_a_tier_does_not_name_stays_at_the_base_rate() -> None:
    assert TIERED.rates_at(200_001)["cache_read"] == Decimal("0.1")


def test_a_tier_does_not_inherit_from_the_tier_below_it() -> None:
    assert TIERED.rates_at(1_000_001)["output"] == Decimal(10)


def test_a_rate_of_zero_in_a_tier_is_a_rate() -> None:
    tiered = price({"input": "1"}, (100, {"input": "0"}))

    assert tiered.charge({"input": 101}, input_tokens=101).amount == 0


def test_a_request_may_cost_more_in_a_tier() -> None:
    tiered = price({"request": "0.01"}, (100, {"request": "0.02"}))

    assert [tiered.charge({}, input_tokens=tokens).amount for tokens in (100, 101)] == [Decimal("0.01"), Decimal("0.02")]


def test_tiers_may_be_written_in_any_order() -> None:
    tiered = price({"input": "1"}, (300, {"input": "3"}), (100, {"input": "2"}))

    assert [tiered.rates_at(tokens)["input"] for tokens in (100, 101, 300, 301)] == [1, 2, 2, 3]


@given(tariffs, st.integers(0, 400_000))
def test_the_rates_at_any_input_are_the_base_with_one_tier_over_it(tariff: Tariff, input_tokens: int) -> None:
    rates = tariff.price.rates_at(input_tokens)

    assert rates == {meter: Decimal(rate) for meter, rate in tariff.rates_for(input_tokens).items()}


@given(tariffs)
def test_a_price_kept_on_a_row_prices_the_same_when_it_is_read_again(tariff: Tariff) -> None:
    kept = tariff.price.as_json()

    again = type(tariff.price).parse(id=kept["id"], model_name=kept["model_name"], rates=kept["rates"], tiers=kept.get("tiers"))

    assert again == tariff.price
