"""A charge is exact: the same to the last of ten decimals as sums of fractions."""

import json
from decimal import Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.billing.price import LARGEST_CHARGE
from app.billing.usage import LARGEST_COUNT, Usage
from tests.billing import exact
from tests.billing.exact import price
from tests.billing.strategies import Tariff, each_meters, multipliers, rate_texts, reported_usages, tariffs, token_meters


@given(tariffs, token_meters, each_meters, st.integers(0, 400_000), multipliers)
@example(Tariff({"input": "9999999.9999999999"}), {"input": LARGEST_COUNT}, {}, 0, "1")
@example(Tariff({"input": "0.0000000001"}), {"input": LARGEST_COUNT}, {}, 0, "0.0001")
def test_a_charge_is_what_fractions_say(
    tariff: Tariff, tokens: dict[str, int], others: dict[str, int], input_tokens: int, multiplier: str
) -> None:
    meters = tokens | others

    charge = tariff.price.charge(meters, input_tokens=input_tokens, multiplier=Decimal(multiplier))

    assert charge.amount == exact.cost(meters, tariff.rates_for(input_tokens), multiplier)


@given(tariffs, reported_usages)
def test_a_reported_usage_costs_what_its_meters_cost(tariff: Tariff, usage: Usage) -> None:
    charge = tariff.price.charge(usage.meters(), input_tokens=usage.input_tokens)

    assert charge.amount == exact.cost(usage.meters(), tariff.rates_for(usage.input_tokens))


@given(tariffs, token_meters, each_meters)
def test_every_line_item_is_its_quantity_at_its_price(tariff: Tariff, tokens: dict[str, int], others: dict[str, int]) -> None:
    charge = tariff.price.charge(tokens | others, input_tokens=0)

    assert [item.meter for item in charge.items if item.meter != "request"] == [*(tokens | others)]
    for item in charge.items:
        assert item.per == (1 if item.meter in exact.EACH else 1_000_000)
        assert Fraction(item.unit_price) == exact.rate(item.meter, tariff.rates)
        assert Fraction(item.amount) == Fraction(item.unit_price) * item.quantity / item.per


@given(tariffs, token_meters, each_meters)
def test_the_line_items_add_up_to_the_charge(tariff: Tariff, tokens: dict[str, int], others: dict[str, int]) -> None:
    charge = tariff.price.charge(tokens | others, input_tokens=0)

    total = sum((Fraction(item.amount) for item in charge.items), Fraction(0))
    assert charge.amount == LARGEST_CHARGE or abs(Fraction(charge.amount) - total) <= Fraction(1, 2 * 10**10)


@given(rate_texts, st.integers(0, LARGEST_COUNT))
def test_line_items_come_back_from_json_to_the_last_digit(rate: str, tokens: int) -> None:
    (item,) = price({"output": rate}).charge({"output": tokens}, input_tokens=0).items

    stored = json.loads(json.dumps(item.as_json()))

    assert Fraction(stored["amount"]) == Fraction(rate) * tokens / 1_000_000
    assert (stored["meter"], stored["quantity"], stored["per"]) == ("output", tokens, 1_000_000)


@given(tariffs, reported_usages, st.integers(0, 50_000))
def test_another_multiplier_is_another_share_of_the_same_sum(tariff: Tariff, usage: Usage, percent: int) -> None:
    charge = tariff.price.charge(usage.meters(), input_tokens=usage.input_tokens, multiplier=Decimal(percent) / 100)

    assert charge.amount == exact.cost(usage.meters(), tariff.rates_for(usage.input_tokens), str(Fraction(percent, 100)))


@pytest.mark.parametrize(
    ("tokens", "multiplier", "amount"),
    [
        (1, "1", "0.0000000001"),  # 0.00000000005: half, up
        (1, "0.9999", "0.0000000000"),
        (3, "1", "0.0000000002"),
        (1, "0", "0"),
        (10_000, "1.5", "0.00000075"),
    ],
)
def test_half_of_the_last_decimal_goes_up_and_less_goes_down(tokens: int, multiplier: str, amount: str) -> None:
    charge = price({"input": "0.00005"}).charge({"input": tokens}, input_tokens=tokens, multiplier=Decimal(multiplier))

    assert charge.amount == Decimal(amount)


def test_an_amount_has_ten_decimals_whatever_the_rate_has() -> None:
    assert price({"input": "1E+3"}).charge({"input": 1}, input_tokens=1).amount.as_tuple().exponent == -10


def test_a_request_is_counted_once_for_each_call() -> None:
    charge = price({"input": "2", "request": "0.01"}).charge({"input": 500_000}, input_tokens=500_000)

    assert charge.amount == Decimal("1.01")
    assert [(item.meter, item.quantity, item.per) for item in charge.items] == [("input", 500_000, 1_000_000), ("request", 1, 1)]


def test_a_call_that_used_nothing_still_pays_for_the_request() -> None:
    assert price({"request": "0.01"}).charge({}, input_tokens=0).amount == Decimal("0.01")


def test_no_request_is_counted_where_it_has_no_rate() -> None:
    charge = price({"input": "2"}).charge({"input": 1}, input_tokens=1)

    assert [item.meter for item in charge.items] == ["input"]


def test_what_is_priced_each_is_not_divided_by_a_million() -> None:
    charge = price({"web_search": "0.01", "image": "0.04"}).charge({"web_search": 3, "image": 2}, input_tokens=0)

    assert charge.amount == Decimal("0.11")


def test_no_charge_is_more_than_a_row_holds() -> None:
    charge = price({"image": "10000000"}).charge({"image": 1000}, input_tokens=0)

    assert charge.amount == LARGEST_CHARGE < Decimal(10) ** 8


def test_the_rounding_of_whoever_calls_changes_nothing() -> None:
    with localcontext(rounding="ROUND_UP"):
        amount = price({"input": "0.00004"}).charge({"input": 1}, input_tokens=1).amount

    assert amount == 0
