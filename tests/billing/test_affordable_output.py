"""The output limit that is sent in the client's place: the largest of which the ceiling fits the credit."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.billing.price import Bound, Price
from tests.billing.exact import INPUT_KINDS, Rates, price
from tests.billing.strategies import money, rate_tables, usual_rates

GENEROUS = 10**7
bounds = st.builds(Bound, st.integers(0, 300_000), st.integers(0, GENEROUS))


def tables(rates: st.SearchStrategy[Decimal]) -> st.SearchStrategy[Rates]:
    others = dict.fromkeys((*INPUT_KINDS, "reasoning", "request"), rates.map(str))
    return st.fixed_dictionaries({"output": rates.map(str)}, optional=others)


usual_tables = tables(usual_rates)
"""Rates of 4 decimals: one token then costs a whole number of the units in which charges are kept."""
cent_tables = tables(st.decimals(0, 100, places=2))
available = st.one_of(money("0", "0.01"), money("0", "1"), money("0", "1000"))


def largest_that_fits(tariff: Price, credit: Decimal, bound: Bound, multiplier: Decimal = Decimal(1)) -> int:
    """By halving, as a ceiling never falls when the output grows; 0 where not even the input fits."""

    def fits(tokens: int) -> bool:
        return tariff.ceiling(replace(bound, output_tokens=tokens), multiplier=multiplier) <= credit

    if not fits(0):
        return 0
    low, high = 0, bound.output_tokens + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


@given(usual_tables, available, bounds)
@example({"output": "10"}, Decimal("0.00001"), Bound(0, 1000))
@example({"output": "3"}, Decimal("0.0000000001"), Bound(0, 1000))
def test_it_is_the_largest_that_fits_and_one_more_does_not(rates: dict[str, str], credit: Decimal, bound: Bound) -> None:
    assert price(rates).affordable_output(credit, bound) == largest_that_fits(price(rates), credit, bound)


@given(cent_tables, available, bounds, st.decimals("0.01", 10, places=2))
def test_it_is_the_largest_that_fits_with_a_multiplier(rates: dict[str, str], credit: Decimal, bound: Bound, multiplier: Decimal) -> None:
    found = price(rates).affordable_output(credit, bound, multiplier=multiplier)

    assert found == largest_that_fits(price(rates), credit, bound, multiplier)


@given(rate_tables(), available, bounds)
def test_what_it_says_fits_at_any_rate(rates: dict[str, str], credit: Decimal, bound: Bound) -> None:
    found = price(rates).affordable_output(credit, bound)

    assert 0 <= found <= bound.output_tokens
    assert found == 0 or price(rates).ceiling(replace(bound, output_tokens=found)) <= credit


@given(usual_tables, usual_tables, available, st.builds(Bound, st.integers(0, 300_000), st.integers(0, 10**6)), st.integers(1, 300_000))
def test_what_it_says_fits_with_any_tier(rates: Rates, above: Rates, credit: Decimal, bound: Bound, step: int) -> None:
    tiered = price(rates, (step, above))

    found = tiered.affordable_output(credit, bound)

    assert found <= largest_that_fits(tiered, credit, bound)


@pytest.mark.parametrize(
    ("base", "above", "credit", "bound"),
    [
        ({"input": "1", "output": "1"}, {"input": "0", "output": "5"}, "2", Bound(1_000_000, 1_000_000)),  # too little: 250,000
        ({"input": "10", "output": "1"}, {"input": "0", "output": "5"}, "15", Bound(1_000_000, 10_000_000)),  # too much: 4,999,999
    ],
)
def test_it_is_the_largest_that_fits_where_a_tier_is_dearer_in_output_alone(base: Rates, above: Rates, credit: str, bound: Bound) -> None:
    tiered = price(base, (100, above))

    assert tiered.affordable_output(Decimal(credit), bound) == largest_that_fits(tiered, Decimal(credit), bound)


@given(available, bounds, st.integers(1, 10_000), st.integers(1, 10_000))
def test_a_tier_that_is_dearer_in_everything_leaves_less_output(credit: Decimal, bound: Bound, cents: int, more: int) -> None:
    base = {"input": f"{cents}", "output": f"{cents * 4}"}
    dearer = {"input": f"{cents + more}", "output": f"{(cents + more) * 4}"}
    tiered = price(base, (bound.input_tokens // 2 + 1, dearer))

    found = tiered.affordable_output(credit, bound)

    assert found == largest_that_fits(tiered, credit, bound) <= price(base).affordable_output(credit, bound)


@pytest.mark.parametrize(("credit", "tokens"), [("0.00999", 0), ("0.01", 0), ("0.010009", 0), ("0.01001", 1), ("0.0200", 1000)])
def test_the_input_is_paid_before_the_output(credit: str, tokens: int) -> None:
    assert price({"input": "10", "output": "10"}).affordable_output(Decimal(credit), Bound(1000, 5000)) == tokens


def test_it_never_passes_what_the_call_may_write() -> None:
    assert price({"output": "10"}).affordable_output(Decimal(1000), Bound(1, 4096)) == 4096


def test_output_that_costs_nothing_is_not_limited_by_credit() -> None:
    assert price({"input": "10", "output": "0"}).affordable_output(Decimal("0.01"), Bound(1000, 4096)) == 4096


def test_no_credit_affords_nothing() -> None:
    assert price({"output": "10"}).affordable_output(Decimal(0), Bound(1, 4096)) == 0


def test_reasoning_that_is_dearer_than_output_is_what_counts() -> None:
    dear = price({"output": "10", "reasoning": "40"})

    assert dear.affordable_output(Decimal("0.04"), Bound(0, 4096)) == 1000
