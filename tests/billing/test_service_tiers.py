"""Service tiers: the rates of the tier that the answer tells, the base rates for what the tier doesn't name, and a ceiling
that no tier in reach can exceed."""

from dataclasses import dataclass
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.billing.price import Bound, Price
from app.billing.service_tier import is_reachable, tier_asked, tier_named, tier_supposed
from app.billing.usage import Usage
from tests.billing.exact import Rates
from tests.billing.strategies import BoundedUse, bounded_uses, rate_tables, steps

PRICE = Price.parse(
    id=1,
    model_name="model",
    rates={"input": "2", "output": "8", "cache_read": "0.5"},
    tiers=[
        {"above_input_tokens": 200, "rates": {"input": "4"}, "service_tiers": {"flex": {"input": "2"}}},
        {"above_input_tokens": 500, "rates": {}, "service_tiers": {"priority": {"input": "9"}}},
    ],
    service_tiers={"flex": {"input": "1", "output": "4"}, "priority": {"input": "5", "output": "20"}, "fast": {"input": "50"}},
)


@pytest.mark.parametrize(
    ("input_tokens", "tier", "rate"),
    [
        (200, None, "2"),
        (201, None, "4"),
        (501, None, "4"),
        (200, "flex", "1"),
        (201, "flex", "2"),
        (501, "flex", "2"),
        (201, "priority", "5"),
        (501, "priority", "9"),
        (201, "fast", "50"),
        (201, "scale", "4"),
    ],
)
def test_the_rate_of_the_tier_and_of_the_size(input_tokens: int, tier: str | None, rate: str) -> None:
    assert PRICE.rates_at(input_tokens, tier)["input"] == Decimal(rate)


def test_what_a_tier_does_not_name_stays_at_the_base_rate() -> None:
    charge = PRICE.charge({"cache_read": 1_000_000}, input_tokens=100, service_tier="flex")

    assert (charge.amount, charge.unpriced) == (Decimal("0.5"), ())


def test_a_tier_without_rates_is_billed_at_the_base_and_named() -> None:
    charge = PRICE.charge({"input": 1_000_000}, input_tokens=100, service_tier="scale")

    assert (charge.amount, charge.unpriced) == (Decimal(2), ("service_tier:scale",))


@pytest.mark.parametrize(
    ("asked", "per_million"),
    [("default", 2), ("standard_only", 2), ("flex", 2), ("auto", 5), ("priority", 50), ("fast", 50), ("unheard-of", 2)],
)
def test_the_ceiling_is_held_at_the_dearest_tier_that_can_be_reached(asked: str, per_million: int) -> None:
    assert PRICE.ceiling(Bound(100, 0, service_tier=asked)) == Decimal(per_million * 100).scaleb(-6)


def test_a_row_keeps_the_tier_that_applied_and_no_other() -> None:
    applied = PRICE.as_json("flex")

    assert (applied["service_tier"], applied["service_tiers"]) == ("flex", {"flex": {"input": "1", "output": "4"}})
    assert applied["tiers"] == [{"above_input_tokens": 200, "rates": {"input": "4"}, "service_tiers": {"flex": {"input": "2"}}}]
    for told in (None, "scale"):
        assert PRICE.as_json(told) == {
            "id": 1,
            "model_name": "model",
            "rates": {"input": "2", "output": "8", "cache_read": "0.5"},
            "tiers": [{"above_input_tokens": 200, "rates": {"input": "4"}}],
        }


def test_what_is_written_is_read_as_the_same_price() -> None:
    assert Price.parse(id=1, model_name="model", **PRICE.as_written()) == PRICE


def test_a_price_that_was_written_before_there_were_service_tiers_is_read() -> None:
    assert Price.parse(id=1, model_name="model", rates={"input": "1"}, tiers=None, service_tiers=None).service_tiers == {}


@pytest.mark.parametrize("wrong", [{"default": {"input": "1"}}, {"Flex": {"input": "1"}}, {"": {}}, {"flex": {}}, {"flex": {"inptu": "1"}}])
def test_service_tiers_that_make_no_sense(wrong: dict[str, Rates]) -> None:
    with pytest.raises(ValueError, match=r"tier|rates|meter"):
        Price.parse(id=1, model_name="model", rates={"input": "1"}, tiers=None, service_tiers=wrong)


@pytest.mark.parametrize("base", [None, "", "auto", "default", "standard", "Standard", "on_demand", 7, [], {"flex": 1}])
def test_the_base_has_many_names(base: object) -> None:
    assert tier_named(base) is None


@pytest.mark.parametrize(("told", "name"), [("FLEX", "flex"), ("x" * 99, "x" * 40), ("a\x00b\ud800", "a?b?"), (" scale ", "scale")])
def test_whatever_an_answer_says_can_be_written_down(told: str, name: str) -> None:
    assert tier_named(told) == name


@pytest.mark.parametrize(
    ("asked", "priced", "tier"),
    [("auto", ["flex"], None), ("flex", ["flex"], "flex"), ("flex", [], "flex"), ("fast", ["priority"], "priority"), ("default", [], None)],
)
def test_where_no_answer_told_the_tier_that_was_asked_for_counts(asked: str, priced: list[str], tier: str | None) -> None:
    assert tier_supposed(asked, priced) == tier


def test_the_tier_that_an_earlier_event_told_is_kept() -> None:
    first, last = Usage(10, 1, service_tier="priority"), Usage(10, 9)

    assert last.at_least(first).service_tier == "priority"


@dataclass(frozen=True)
class Tiered:
    price: Price
    ran_at: str | None
    asked: str


table = rate_tables(("input", "cache_read", "output", "reasoning", "request"))


@st.composite
def tiered(draw: st.DrawFn) -> Tiered:
    """A price with service tiers, what is asked for, and the tier that the call then runs at."""
    names = draw(st.sampled_from([("flex",), ("priority",), ("fast", "flex"), ("fast", "priority", "scale")]))
    tables = st.fixed_dictionaries({}, optional=dict.fromkeys(names, table))
    contexts = draw(st.lists(st.tuples(steps, table, tables), max_size=2, unique_by=lambda step: step[0]))
    price = Price.parse(
        id=1,
        model_name="model",
        rates=draw(table),
        tiers=[{"above_input_tokens": above, "rates": rates, "service_tiers": own} for above, rates, own in contexts],
        service_tiers={name: draw(table) for name in names},
    )
    asked = draw(st.sampled_from(["auto", "default", "flex", "priority", "fast", "scale"]))
    ran_at = draw(st.sampled_from([None, *(name for name in names if is_reachable(name, asked))]))
    return Tiered(price, ran_at, asked)


@settings(max_examples=120, deadline=None)
@given(tiered(), bounded_uses())
def test_no_call_costs_more_than_its_ceiling_whatever_tier_it_runs_at(call: Tiered, use: BoundedUse) -> None:
    bound = Bound(use.bound.input_tokens, use.bound.output_tokens, use.bound.kinds, service_tier=tier_asked(call.asked))

    charge = call.price.charge(use.meters, input_tokens=use.input_tokens, service_tier=call.ran_at)

    assert charge.amount <= call.price.ceiling(bound)


@settings(deadline=None)
@given(tiered(), bounded_uses(), st.decimals(0, 1000, places=6))
def test_what_is_affordable_is_so_at_each_tier(call: Tiered, use: BoundedUse, available: Decimal) -> None:
    bound = Bound(use.bound.input_tokens, use.bound.output_tokens, use.bound.kinds, service_tier=call.asked)
    fitting = call.price.affordable_output(available, bound)

    if fitting:
        charge = call.price.charge({"output": fitting}, input_tokens=use.bound.input_tokens, service_tier=call.ran_at)
        assert charge.amount <= available
