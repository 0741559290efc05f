"""Another's reading of the same answers: `genai-prices`, which knows how providers report usage and what it costs.

For every recorded exchange that it can parse, its counts and ours are compared, and its price and our charge at a price that
was seeded from its catalogue. Where the two differ, `DIFFERENCES` says who is right; one that is not listed fails, and so
does one that is listed and no longer there.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from decimal import ROUND_HALF_UP
from functools import cache
from typing import Any

import pytest
from genai_prices.data import providers
from genai_prices.types import Provider
from genai_prices.types import Usage as Theirs

from app.billing.price import CHARGE_UNIT, Price
from app.billing.usage import Usage
from app.catalog.price_catalogue import list_price
from app.gateway.metering.meter import StreamMeter
from app.gateway.protocols import PROTOCOLS
from tests.acceptance.test_recorded_exchanges import RECORDED

Case = dict[str, Any]

DIFFERENCES = {
    "anthropic messages output_reasoning_tokens": "Ours is right for a bill. Anthropic tells `thinking_tokens` in some streams, and "
    "calls `output_tokens` less these an approximation of what is shown. All of it is output at one price, and the recorded "
    "exchanges count no reasoning; the charge is the same.",
}
"""Provider, protocol and what differs: who is right, and why."""

COUNTS = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_tokens": "cache_read_tokens",
    "cache_write_tokens": "cache_write_tokens",
    "output_reasoning_tokens": "reasoning_tokens",
    "cache_write_1h_tokens": "cache_write_1h_tokens",
    "input_audio_tokens": "audio_input_tokens",
    "output_audio_tokens": "audio_output_tokens",
    "output_image_tokens": "image_output_tokens",
}
"""Their names and ours. What they don't report of these is not compared."""
ALWAYS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "output_reasoning_tokens")
FLAVORS = {
    "chat.completions": ("chat", "default"),
    "responses": ("responses",),
    "embeddings": ("embeddings",),
    "messages": ("default",),
    "generateContent": ("default",),
}
SPEAK_OPENAI = ("chat.completions", "responses", "embeddings")
PROVIDERS = {provider.id: provider for provider in providers}
CATALOGUE_NAMES = {"bedrock": "aws"}


def load() -> list[Case]:
    return [json.loads(line) for line in RECORDED.read_text(encoding="utf-8").splitlines()] if RECORDED.exists() else []


CASES = {case["id"]: case for case in load()}
if not CASES:
    pytest.skip(f"no recorded exchanges at {RECORDED}", allow_module_level=True)


def documents(case: Case) -> Iterator[Any]:
    """Whatever of an answer may hold a report: the body, or each event, and what they wrap."""
    lines = case["response"].splitlines() if case["stream"] else ["data:" + case["response"]]
    for line in lines:
        try:
            whole = json.loads(line.removeprefix("data:")) if line.startswith("data:") else None
        except ValueError:
            continue
        if isinstance(whole, dict):
            yield from (part for part in (whole, whole.get("response"), whole.get("message")) if isinstance(part, dict))


def theirs(case: Case) -> Theirs | None:
    """The last report that they can parse: with what they know of the provider, else of OpenAI, whose protocol it speaks."""
    known = [PROVIDERS.get(CATALOGUE_NAMES.get(case["provider"], case["provider"]))]
    known += [PROVIDERS["openai"]] if case["api"] in SPEAK_OPENAI else []
    for provider in filter(None, known):
        found = None
        for document in documents(case):
            found = extracted(provider, case["api"], document) or found
        if found is not None:
            return found
    return None


def extracted(provider: Provider, api: str, document: Any) -> Theirs | None:
    known = [extractor.api_flavor for extractor in provider.extractors or ()]
    for flavor in (flavor for flavor in FLAVORS[api] if flavor in known):
        try:
            return provider.extract_usage(document, api_flavor=flavor)[1]
        except ValueError:
            continue
    return None


def ours(case: Case) -> Usage:
    protocol = next(protocol for protocol in PROTOCOLS if protocol.api == case["api"])
    answer = case["response"].encode()
    if case["stream"]:
        meter = StreamMeter(protocol, strips=False)
        meter.feed(answer)
        meter.finish()
        usage = meter.usage
    else:
        usage = protocol.usage_of(answer)
    assert usage is not None, f"they read a report in {case['id']}, we don't"
    return usage


@cache
def differences_of(case_id: str) -> frozenset[str] | None:
    """None where they can parse nothing."""
    case = CASES[case_id]
    reported = theirs(case)
    if reported is None:
        return None
    usage = ours(case)
    told = reported.__dict__
    names = [name for name in COUNTS if name in ALWAYS or name in told]
    found = {name for name in names if told.get(name, 0) != getattr(usage, COUNTS[name])}
    if told.get("web_searches", 0) != usage.extra.get("web_search", 0):
        found.add("web_searches")
    if priced_differently(case, reported, usage):
        found.add("price")
    return frozenset(f"{case['provider']} {case['api']} {name}" for name in found)


def priced_differently(case: Case, reported: Theirs, usage: Usage) -> bool:
    provider, seeded = seeded_price(case)
    if provider is None or seeded is None:
        return False
    charge = seeded.charge(usage.meters(), input_tokens=usage.input_tokens, service_tier=usage.service_tier)
    model = provider.find_model(case["model"])
    midnight = datetime.combine(datetime.now(UTC).date(), time(), UTC)
    context = {"service_tier": usage.service_tier} if usage.service_tier else None
    of_the_day = [
        model.calc_price(reported, provider, genai_request_timestamp=midnight + timedelta(hours=hour, minutes=45), price_context=context)
        for hour in range(24)
    ]
    dearest = max(calculated.total_price for calculated in of_the_day)  # some are cheaper at night, and we have one price
    return dearest.quantize(CHARGE_UNIT, ROUND_HALF_UP) != charge.amount


def seeded_price(case: Case) -> tuple[Provider | None, Price | None]:
    provider = PROVIDERS.get(CATALOGUE_NAMES.get(case["provider"], case["provider"]))
    listed = list_price(provider.id, case["model"]) if provider else None
    if listed is None:
        return provider, None
    written = {"rates": listed.rates, "tiers": listed.tiers, "service_tiers": listed.service_tiers}
    return provider, Price.parse(id=None, model_name=case["model"], **written)


@pytest.mark.parametrize("case_id", CASES)
def test_they_and_we_agree_but_for_what_is_listed(case_id: str) -> None:
    assert (differences_of(case_id) or frozenset()) - set(DIFFERENCES) == set()


def test_what_is_listed_still_differs() -> None:
    assert {difference for case_id in CASES for difference in differences_of(case_id) or ()} == set(DIFFERENCES)


def test_they_can_parse_nearly_all_that_reports_usage() -> None:
    reporting = [case_id for case_id, case in CASES.items() if case["usage"]]

    assert sum(differences_of(case_id) is not None for case_id in reporting) > 0.9 * len(reporting)
    assert sum(seeded_price(CASES[case_id])[1] is not None for case_id in reporting) > 0.8 * len(reporting)
