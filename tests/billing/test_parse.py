"""What an operator writes becomes a price, or is refused with the reason: nothing strange ever gets near a bill."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.billing.price import Price
from tests.billing.exact import CHAINS, price


def parse(rates: Any, tiers: Any = None) -> Price:
    return Price.parse(id=None, model_name="model", rates=rates, tiers=tiers)


@pytest.mark.parametrize("text", ["NaN", "sNaN", "-NaN", "NaN123", "Infinity", "-Infinity", "inf"])
def test_what_is_no_finite_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="from 0 to 10,000,000"):
        parse({"input": text})


@pytest.mark.parametrize("text", ["-1", "-0.0000000001", "-1E+3", "-1E-999999"])
def test_a_negative_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="from 0 to 10,000,000"):
        parse({"input": text})


@pytest.mark.parametrize("text", ["10000000.0000000001", "10000001", "1E+8", "1E+999999"])
def test_a_rate_beyond_reason_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="from 0 to 10,000,000"):
        parse({"input": text})


@pytest.mark.parametrize("text", ["0.00000000001", "1.00000000005", "1E-11", "1E-999999", "9999999.99999999999"])
def test_more_decimals_than_a_charge_has_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="more than 10 decimals"):
        parse({"input": text})


@pytest.mark.parametrize("text", ["1." + "0" * 34 + "1", "0.0000000001" + "0" * 30 + "1", "0." + "9" * 40])
def test_decimals_are_counted_however_many_digits_there_are(text: str) -> None:
    with pytest.raises(ValueError, match="more than 10 decimals"):
        parse({"input": text})


@pytest.mark.parametrize("text", ["", " ", "free", "1,5", "0x10", "1e", "--1", "1 000", "1.2.3", None, {}, b"1"])
def test_what_is_no_number_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match="no decimal number"):
        parse({"input": text})


@pytest.mark.parametrize("meter", ["Input", "inputs", "", "prompt", "cache-read", "total"])
def test_an_unknown_meter_is_refused_with_those_that_are_known(meter: str) -> None:
    with pytest.raises(ValueError, match=r"is no meter; known are .*cache_write_1h.*web_search"):
        parse({meter: "1"})


def test_no_rates_at_all_are_refused() -> None:
    with pytest.raises(ValueError, match="`rates` is empty"):
        parse({})


@pytest.mark.parametrize("above", [0, -1, 1.5, "100", True, None])
def test_a_tier_without_a_step_is_refused(above: Any) -> None:
    with pytest.raises(ValueError, match="above_input_tokens"):
        parse({"input": "1"}, [{"above_input_tokens": above, "rates": {"input": "2"}}])


@pytest.mark.parametrize("rates", [{}, None, {"input": "NaN"}, {"prompt": "1"}, {"input": "-1"}])
def test_the_rates_of_a_tier_are_checked_as_well(rates: Any) -> None:
    with pytest.raises(ValueError, match=r"rate|meter"):
        parse({"input": "1"}, [{"above_input_tokens": 100, "rates": rates}])


@pytest.mark.parametrize("text", ["0", "-0", "0.0", "0E-999999", "0E+999999", "-0E-5"])
def test_every_way_to_write_zero_is_a_plain_zero(text: str) -> None:
    parsed = parse({"input": text})

    assert parsed.as_json()["rates"] == {"input": "0"}
    assert parsed.charge({"input": 10}, input_tokens=10).amount == 0


@pytest.mark.parametrize(
    ("text", "plain"), [("1E+3", "1000"), ("1.50", "1.50"), ("10000000", "10000000"), ("1E-10", "0.0000000001"), ("5e-1", "0.5")]
)
def test_a_rate_is_kept_in_plain_digits(text: str, plain: str) -> None:
    assert parse({"output": text}).as_json()["rates"] == {"output": plain}


def test_zeros_at_the_end_are_no_decimals() -> None:
    assert parse({"input": "0.15" + "0" * 20}).rates["input"] == Decimal("0.15")


@pytest.mark.parametrize("meter", CHAINS)
def test_every_meter_of_the_contract_is_known(meter: str) -> None:
    assert price({meter: "0.15"}).rates == {meter: Decimal("0.15")}


@given(st.text() | st.from_regex(r"[+-]?[0-9]{0,9}\.?[0-9]{0,12}([eE][+-]?[0-9]{1,7})?", fullmatch=True))
@example("1_000")
def test_any_text_is_a_rate_within_the_limits_or_a_value_error(text: str) -> None:
    try:
        rate = parse({"input": text}).rates["input"]
    except ValueError:
        return
    assert rate.is_finite()
    assert 0 <= rate <= 10_000_000
    assert rate == rate.quantize(Decimal("1e-10"))
    assert len(f"{rate:f}") < 60
