"""Images, seconds, characters and searches: what is billed in place of tokens, at which rate, and what is held for it."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.billing.price import Bound
from app.billing.rates import TEXT_KINDS, image_meter
from app.billing.usage import Usage
from tests.billing.exact import Rates, price

qualities = st.sampled_from([None, "low", "hd"])
sizes = st.sampled_from([None, "512x512", "1024x1792"])
image_names = st.builds(image_meter, qualities, sizes)
amounts = st.decimals(0, 50, places=4).map(str)
tables = st.dictionaries(
    st.one_of(image_names, st.sampled_from(["input", "output", "image_output", "image_input", "request"])), amounts, min_size=1
)
KINDS = TEXT_KINDS | {"image_input", "image_output"}


@given(tables, qualities, sizes, qualities, sizes, st.integers(0, 20), st.integers(0, 9000), st.integers(0, 9000))
def test_no_images_within_their_bound_cost_more_than_is_held(
    rates: Rates, quality: str | None, size: str | None, made_quality: str, made_size: str, count: int, given_: int, made: int
) -> None:
    """What the request names, the answer keeps to; what it leaves open, the upstream chooses."""
    held = Bound(given_, made, KINDS, units={image_meter(quality, size): count})
    made_meter = image_meter(quality or made_quality, size or made_size)
    usage = Usage(input_tokens=given_, output_tokens=made, image_output_tokens=made, units={made_meter: count})

    for told in (usage, Usage(units=usage.units)):
        charge = price(rates).charge(told.meters(), input_tokens=told.input_tokens, units=told.units)
        assert charge.amount <= price(rates).ceiling(held)


@pytest.mark.parametrize(
    ("rates", "amount"),
    [
        ({"image": "1", "image:hd": "2", "image:512x512": "3", "image:hd:512x512": "4"}, 4),
        ({"image": "1", "image:hd": "2", "image:512x512": "3", "image:low:512x512": "4"}, 3),
        ({"image": "1", "image:hd": "2", "image:1024x1024": "3"}, 2),
        ({"image": "1", "image:low": "2"}, 1),
        ({"image:hd": "0", "image": "1"}, 0),
    ],
)
def test_the_most_precise_rate_of_an_image_counts_without_a_word(rates: Rates, amount: int) -> None:
    charge = price(rates).charge({}, input_tokens=0, units={"image:hd:512x512": 1})

    assert (charge.amount, charge.unpriced) == (amount, ())


@pytest.mark.parametrize(
    ("rates", "tokens", "units", "meters", "unpriced"),
    [
        ({"input": "1", "output": "2", "image": "9"}, 5, {"image": 1}, {"input"}, ()),
        ({"input": "0", "output": "0", "image": "9"}, 5, {"image": 1}, {"image"}, ()),
        ({"image": "9"}, 5, {"image": 1}, {"image"}, ()),
        ({"input": "1", "second": "9"}, 0, {"second": 3}, {"second"}, ()),
        ({"input": "1"}, 0, {"second": 3}, {"second"}, ("second",)),
        ({"input": "1"}, 5, {"second": 3}, {"input"}, ()),
        ({"character": "1"}, 5, {"second": 3}, {"input", "second"}, ("input", "second")),
        ({"input": "1", "image": "9"}, 0, {"image": 0}, set(), ()),
    ],
)
def test_tokens_are_billed_where_they_have_rates_else_units(
    rates: Rates, tokens: int, units: dict[str, int], meters: set[str], unpriced: tuple[str, ...]
) -> None:
    charge = price(rates).charge(Usage(input_tokens=tokens).meters(), input_tokens=tokens, units=units)

    assert {item.meter for item in charge.items} == meters
    assert charge.unpriced == unpriced


def test_units_are_held_for_and_leave_no_output_to_be_afforded() -> None:
    per_image = price({"image": "0.04", "output": "1"})

    assert per_image.ceiling(Bound(0, 1000, units={"image:hd:512x512": 3})) == Decimal("0.12")
    assert per_image.affordable_output(Decimal("0.1"), Bound(0, 1000, units={"image": 3})) == 0
    assert per_image.affordable_output(Decimal("0.12"), Bound(0, 1000, units={"image": 3})) == 1000


@pytest.mark.parametrize(
    ("quality", "size", "meter"),
    [
        ("hd", "1024x1792", "image:hd:1024x1792"),
        ("auto", "auto", "image"),
        (None, "1024x1024", "image:1024x1024"),
        ("high", None, "image:high"),
        ("HIGH", "1024X1024", "image"),
        ("a:b", "1x1:2x2", "image"),
        ("x" * 21, "99999999x1", "image"),
        (["hd"], {"w": 1}, "image"),
    ],
)
def test_an_image_is_named_by_what_can_be_known_of_it(quality: object, size: object, meter: str) -> None:
    assert image_meter(quality, size) == meter


@pytest.mark.parametrize("name", ["image:hd", "image:1024x1024", "image:hd:1024x1024", "search"])
def test_rates_of_images_are_taken(name: str) -> None:
    assert price({name: "0.1"}).as_json()["rates"] == {name: "0.1"}


@pytest.mark.parametrize("name", ["image:", "image:HD", "image:1024x1024:hd", "image:hd:", "image:0x0", "second:hd", "image:hd:big"])
def test_other_names_are_refused_with_an_example(name: str) -> None:
    with pytest.raises(ValueError, match="image:high:1024x1024"):
        price({name: "0.1"})


def test_units_of_several_reports_are_the_largest_or_add_up() -> None:
    one, two = Usage(units={"image": 1}), Usage(units={"image": 2, "second": 1})

    assert one.at_least(two).units == two.units
    assert one.plus(two).units == {"image": 3, "second": 1}
