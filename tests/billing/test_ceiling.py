"""No call within its bound costs more than its ceiling. On this stands that a prepaid account never goes below zero."""

from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.billing.price import LARGEST_CHARGE, Bound
from app.billing.rates import TEXT_KINDS
from app.billing.usage import Usage
from tests.billing import exact
from tests.billing.exact import INPUT_KINDS, OUTPUT_KINDS, price
from tests.billing.strategies import BoundedUse, Tariff, bounded_uses, counts, multipliers, rate_tables, reported_usages, tariffs


@settings(max_examples=120)
@given(tariffs, bounded_uses(), multipliers)
@example(Tariff({"input": "5"}, ((10, {"input": "1"}),)), BoundedUse(Bound(11, 0), {"input": 10}, 10), "1")
@example(Tariff({"input": "1", "cache_write": "9"}), BoundedUse(Bound(11, 0), {"cache_write": 11}, 11), "1")
@example(Tariff({"reasoning": "9"}), BoundedUse(Bound(0, 7), {"reasoning": 7}, 0), "1")
def test_no_call_within_its_bound_costs_more_than_its_ceiling(tariff: Tariff, use: BoundedUse, multiplier: str) -> None:
    charge = tariff.price.charge(use.meters, input_tokens=use.input_tokens, multiplier=Decimal(multiplier))

    assert charge.amount <= tariff.price.ceiling(use.bound, multiplier=Decimal(multiplier))


@settings(max_examples=120)
@given(tariffs, reported_usages, counts, counts)
def test_no_reported_usage_of_text_costs_more_than_the_ceiling(tariff: Tariff, usage: Usage, spare_in: int, spare_out: int) -> None:
    usage = Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        reasoning_tokens=usage.reasoning_tokens,
    )
    bound = Bound(usage.input_tokens + spare_in, usage.output_tokens + spare_out)

    charge = tariff.price.charge(usage.meters(), input_tokens=usage.input_tokens)

    assert charge.amount <= tariff.price.ceiling(bound)


@given(tariffs, reported_usages)
def test_no_reported_usage_with_sound_costs_more_than_the_ceiling(tariff: Tariff, usage: Usage) -> None:
    bound = Bound(usage.input_tokens, usage.output_tokens, TEXT_KINDS | {"audio_input", "audio_output"})

    assert tariff.price.charge(usage.meters(), input_tokens=usage.input_tokens).amount <= tariff.price.ceiling(bound)


@given(rate_tables(), bounded_uses(), multipliers)
def test_without_tiers_some_call_costs_all_of_the_ceiling(rates: dict[str, str], use: BoundedUse, multiplier: str) -> None:
    bound = use.bound
    dearest_in = max((kind for kind in INPUT_KINDS if kind in bound.kinds | {"input"}), key=lambda kind: exact.rate(kind, rates))
    dearest_out = max((kind for kind in OUTPUT_KINDS if kind in bound.kinds | {"output"}), key=lambda kind: exact.rate(kind, rates))
    dearest = {dearest_in: bound.input_tokens, dearest_out: bound.output_tokens}

    ceiling = price(rates).ceiling(bound, multiplier=Decimal(multiplier))

    assert min(ceiling, LARGEST_CHARGE) == exact.cost(dearest, rates, multiplier)


@given(tariffs, bounded_uses(), counts, counts)
def test_a_wider_bound_never_has_a_lower_ceiling(tariff: Tariff, use: BoundedUse, more_in: int, more_out: int) -> None:
    wider = Bound(use.bound.input_tokens + more_in, use.bound.output_tokens + more_out, use.bound.kinds)

    assert tariff.price.ceiling(use.bound) <= tariff.price.ceiling(wider)


@given(tariffs, bounded_uses())
def test_more_kinds_never_have_a_lower_ceiling(tariff: Tariff, use: BoundedUse) -> None:
    every_kind = Bound(use.bound.input_tokens, use.bound.output_tokens, frozenset((*INPUT_KINDS, *OUTPUT_KINDS)))

    assert tariff.price.ceiling(use.bound) <= tariff.price.ceiling(every_kind)


@pytest.mark.parametrize(("input_tokens", "ceiling"), [(100, "0.000100"), (101, "0.000505"), (1000, "0.005")])
def test_a_tier_counts_from_the_first_token_that_reaches_it(input_tokens: int, ceiling: str) -> None:
    assert price({"input": "1"}, (100, {"input": "5"})).ceiling(Bound(input_tokens, 0)) == Decimal(ceiling)


def test_the_base_rates_count_where_a_tier_is_cheaper() -> None:
    assert price({"input": "5"}, (100, {"input": "1"})).ceiling(Bound(1000, 0)) == Decimal("0.005")


def test_a_kind_that_the_call_cannot_raise_costs_nothing() -> None:
    with_sound = price({"input": "1", "audio_input": "40"})

    assert with_sound.ceiling(Bound(1_000_000, 0)) == 1
    assert with_sound.ceiling(Bound(1_000_000, 0, TEXT_KINDS | {"audio_input"})) == 40


def test_the_request_is_part_of_the_ceiling() -> None:
    assert price({"request": "0.01"}, (10, {"request": "0.03"})).ceiling(Bound(11, 0)) == Decimal("0.03")


def test_a_free_price_has_no_ceiling_to_hold() -> None:
    assert price({"input": "0", "output": "0"}).ceiling(Bound(1_000_000, 1_000_000)) == 0


@given(st.integers(1, 2**63))
def test_a_bound_beyond_reason_still_has_a_ceiling(output_tokens: int) -> None:
    assert price({"output": "10"}).ceiling(Bound(1, output_tokens)) >= Decimal(output_tokens) / 100_001


def test_a_limit_of_thirty_digits_is_too_dear_and_no_fault() -> None:
    assert price({"output": "10"}).ceiling(Bound(1, 10**30)) > LARGEST_CHARGE
