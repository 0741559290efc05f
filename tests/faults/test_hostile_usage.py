"""Whatever JSON an upstream sends as `usage`, at once or in a stream: the call has a bill that is a sum of money, counts
that fit their columns, and says where they come from. `FAULTS=full` tries fifty times as much."""

import json
import os
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.billing.price import LARGEST_CHARGE, Price
from app.billing.usage import LARGEST_COUNT, Usage
from app.catalog.callers import Caller
from app.catalog.routing import ModelLimits
from app.gateway.call_record import CallRecord
from app.gateway.metering.meter import BodyMeter, StreamMeter
from app.gateway.metering.strict_json import strict_json
from app.gateway.metering.usage_reports import UsageReports, most_believable
from app.gateway.protocols import CallRequest
from app.gateway.protocols.chat_completions import ChatCompletions
from tests.gateway.sse import DONE, cut, framed

pytestmark = pytest.mark.timeout(1800)
EXAMPLES = settings(max_examples=10_000 if os.environ.get("FAULTS") == "full" else 200, deadline=None)
COUNTS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
NAMES = (
    "prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "completion_tokens_details", "cached_tokens",
    "prompt_cache_hit_tokens", "cache_write_tokens", "reasoning_tokens", "audio_tokens", "usage",
)  # fmt: skip
PROTOCOL = ChatCompletions()
CALLER = Caller(user_id="someone", key_id=1, scope="key", models=None, allowed_ips=None, is_disabled=False, key_hash="")
PRICE = Price.parse(
    id=1,
    model_name="m",
    rates={"input": "10000000", "output": "0.0000000001", "cache_read": "0", "reasoning": "9999999.9999999999", "request": "0.5"},
    tiers=[{"above_input_tokens": 1000, "rates": {"input": "3"}}],
)

numbers = st.one_of(
    st.integers(0, 50_000),
    st.integers(),
    st.floats(),  # NaN and both infinities among them
    st.sampled_from([-1, 2**31 - 1, 2**31, 2**63, 10**30, 1e30, 10**400, -0.0, 1.0]),
)
scalars = st.one_of(numbers, st.booleans(), st.none(), st.text(max_size=4), st.just("\ud800"))
values = st.recursive(
    scalars, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(NAMES), inner, max_size=6)), max_leaves=12
)
plausible = st.fixed_dictionaries(
    {"prompt_tokens": st.integers(0, 50_000), "completion_tokens": st.integers(0, 50_000)},
    optional={
        "prompt_tokens_details": st.dictionaries(st.sampled_from(NAMES), numbers),
        "completion_tokens_details": st.dictionaries(st.sampled_from(NAMES), numbers),
        "total_tokens": scalars,
    },
)
reports = st.one_of(values, plausible, st.dictionaries(st.sampled_from(NAMES), values))
contexts = st.sampled_from([None, 1, 1000, LARGEST_COUNT])


def telling(usage: Any, text: str = "red") -> bytes:
    return json.dumps({"choices": [{"index": 0, "delta": {"content": text}}], "usage": usage}).encode()


def record(*, open_ended: bool, ceiling: Decimal = Decimal("0.01")) -> CallRecord:
    made = CallRecord(api="chat.completions")
    made.called_by(CALLER, address=None)
    made.price = PRICE
    made.admitted(ceiling=ceiling, open_ended=open_ended, max_tokens_applied=None)
    return made


def limited(context: int | None) -> UsageReports:
    request = CallRequest(body=b"", model="m", input_bound=100)
    return UsageReports(most_believable(request, ModelLimits(context_tokens=context)))


def assert_sound(reports: UsageReports, *, open_ended: bool) -> None:
    """Where nothing is believed, three tokens were counted here."""
    made = record(open_ended=open_ended)
    for flag in reports.flags():
        made.flag(flag)
    usage, source = (reports.usage, "provider") if reports.usage else (Usage(3, 3), "estimated")
    outcome = made.outcome(status="success", end_reason="completed", http_status=200, usage=usage, usage_source=source)

    row = msgspec.json.decode(outcome.entry)
    assert outcome.request_id == UUID(row["request_id"])
    cost = Decimal(row["cost"])
    assert cost.is_finite()
    assert 0 <= cost <= (LARGEST_CHARGE if open_ended else Decimal("0.01"))
    assert all(type(row[name]) is int and 0 <= row[name] <= LARGEST_COUNT for name in COUNTS)
    assert max(row["input_tokens"], row["output_tokens"]) <= reports.most
    items = sum(Decimal(item["amount"]) for item in row["line_items"])
    assert all(item["quantity"] > 0 for item in row["line_items"])
    assert items >= 0
    flags = row["flags"] or []
    assert ("usage_inconsistent" in flags) == (not usage.is_consistent)
    if not flags:
        assert sum(item["quantity"] for item in row["line_items"] if item["meter"] != "request") == usage.input_tokens + usage.output_tokens


@EXAMPLES
@given(reports, contexts, st.booleans(), st.integers(0, 200))
def test_any_usage_of_a_whole_answer_makes_a_sound_row(reported: Any, context: int | None, open_ended: bool, at: int) -> None:
    answer = json.dumps({"choices": [{"index": 0, "message": {"content": "red"}}], "usage": reported}).encode()
    meter = BodyMeter(length=None, encoding=None)
    for piece in cut(answer, [at]):
        meter.feed(piece)
    reports = limited(context)
    reports.take(PROTOCOL.usage_of(meter.answer()) or PROTOCOL.usage_of(strict_json(meter.answer())), meter.answer())

    assert_sound(reports, open_ended=open_ended)


@EXAMPLES
@given(st.lists(reports, max_size=4), contexts, st.booleans(), st.lists(st.integers(0, 2000), max_size=4))
def test_any_usages_of_a_stream_make_a_sound_row(told: list[Any], context: int | None, open_ended: bool, offsets: list[int]) -> None:
    events = framed([*map(telling, told), DONE])
    meter = StreamMeter(PROTOCOL, strips=True, reports=limited(context))
    for piece in cut(b"".join(events), offsets):
        meter.feed(piece)
    meter.finish()

    assert meter.terminal
    assert_sound(meter.reports, open_ended=open_ended)


@EXAMPLES
@given(st.lists(plausible, min_size=1, max_size=5))
def test_counts_of_a_stream_never_go_down(told: list[dict[str, Any]]) -> None:
    meter = StreamMeter(PROTOCOL, strips=False)
    for event in framed(map(telling, told)):
        meter.feed(event)

    assert meter.usage is not None
    assert meter.usage.input_tokens == max(usage["prompt_tokens"] for usage in told)
    assert meter.usage.output_tokens == max(usage["completion_tokens"] for usage in told)


@EXAMPLES
@given(reports)
def test_the_text_beside_any_usage_is_counted(reported: Any) -> None:
    meter = StreamMeter(PROTOCOL, strips=False)
    for event in framed([telling(reported), telling(reported, "blue"), DONE]):
        meter.feed(event)

    assert meter.take_texts() == ["red", "blue"]
