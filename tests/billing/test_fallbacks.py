"""A meter without a rate of its own is billed as what it is a kind of, or named; a zero is a rate."""

from decimal import Decimal

import pytest
from hypothesis import given

from app.billing.price import Charge
from tests.billing.exact import CHAINS, EACH, price
from tests.billing.strategies import Tariff, tariffs, token_meters

MILLION = 1_000_000


def charge(rates: dict[str, str], meter: str) -> Charge:
    return price(rates).charge({meter: MILLION}, input_tokens=0)


@pytest.mark.parametrize(
    ("meter", "rates", "amount"),
    [
        ("cache_read", {"input": "3"}, 3),
        ("cache_write", {"input": "3"}, 3),
        ("cache_write_1h", {"input": "3"}, 3),
        ("cache_write_1h", {"input": "3", "cache_write": "4"}, 4),
        ("reasoning", {"output": "9"}, 9),
        ("audio_input", {"input": "3"}, 3),
        ("image_input", {"input": "3"}, 3),
        ("audio_output", {"output": "9"}, 9),
        ("image_output", {"output": "9"}, 9),
    ],
)
def test_a_kind_without_a_rate_costs_what_the_whole_costs(meter: str, rates: dict[str, str], amount: int) -> None:
    assert charge(rates, meter).amount == amount


@pytest.mark.parametrize("meter", [meter for meter, chain in CHAINS.items() if len(chain) > 1])
def test_a_kind_with_a_rate_of_its_own_costs_that(meter: str) -> None:
    assert charge({"input": "3", "output": "9", "cache_write": "4", meter: "0.5"}, meter).amount == Decimal("0.5")


@pytest.mark.parametrize("meter", [meter for meter in CHAINS if meter not in EACH])
def test_an_explicit_zero_stays_zero(meter: str) -> None:
    free = charge({"input": "3", "output": "9", "cache_write": "4", meter: "0"}, meter)

    assert (free.amount, free.unpriced) == (0, ())


@pytest.mark.parametrize("meter", ["cache_read", "cache_write", "cache_write_1h"])
def test_cached_input_that_is_billed_as_input_is_no_gap_in_the_price(meter: str) -> None:
    assert charge({"input": "3"}, meter).unpriced == ()


def test_reasoning_that_is_billed_as_output_is_no_gap_in_the_price() -> None:
    assert charge({"output": "9"}, "reasoning").unpriced == ()


@pytest.mark.parametrize("meter", ["audio_input", "image_input", "audio_output", "image_output"])
def test_another_kind_is_billed_as_text_and_named(meter: str) -> None:
    billed = charge({"input": "3", "output": "9"}, meter)

    assert billed.amount in (3, 9)
    assert billed.unpriced == (meter,)


@pytest.mark.parametrize("meter", ["image", "second", "character", "web_search"])
def test_what_is_priced_each_and_has_no_rate_is_free_and_named(meter: str) -> None:
    billed = charge({"input": "3", "output": "9", "request": "0"}, meter)

    assert (billed.amount, billed.unpriced) == (0, (meter,))


@pytest.mark.parametrize(("meter", "rates"), [("input", {"output": "9"}), ("output", {"input": "3"}), ("output", {"reasoning": "9"})])
def test_a_whole_side_without_a_rate_is_named(meter: str, rates: dict[str, str]) -> None:
    billed = charge(rates, meter)

    assert (billed.amount, billed.unpriced) == (0, (meter,))


@pytest.mark.parametrize(
    ("meter", "rates"),
    [
        ("reasoning", {"input": "3"}),
        ("cache_read", {"output": "9"}),
        ("cache_write", {"output": "9"}),
        ("cache_write_1h", {"output": "9"}),
    ],
)
def test_a_kind_whose_whole_has_no_rate_either_is_named(meter: str, rates: dict[str, str]) -> None:
    billed = charge(rates, meter)

    assert (billed.amount, billed.unpriced) == (0, (meter,))


@given(tariffs, token_meters)
def test_nothing_that_has_its_own_rate_is_called_unpriced(tariff: Tariff, meters: dict[str, int]) -> None:
    billed = tariff.price.charge(meters, input_tokens=0)

    assert set(billed.unpriced) <= set(meters) - set(tariff.rates)
