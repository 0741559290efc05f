"""A call is billed at the rates of the service tier that its answer tells, and held at the dearest that it may reach."""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from tests.harness.admin import Admin
from tests.harness.scene import RATES, Scene

TIERS = {
    "flex": {"input": "1.25", "output": "5", "cache_read": "0.125"},
    "priority": {"input": "5", "output": "20"},
    "fast": {"input": "25"},
}
CHAT = {"prompt_tokens": 1000, "completion_tokens": 100, "prompt_tokens_details": {"cached_tokens": 400}}
RESPONSES = {"input_tokens": 1000, "output_tokens": 100, "input_tokens_details": {"cached_tokens": 400}}
MESSAGES = {"input_tokens": 600, "cache_read_input_tokens": 400, "output_tokens": 100}
GEMINI = {"promptTokenCount": 1000, "candidatesTokenCount": 100, "totalTokenCount": 1100, "cachedContentTokenCount": 400}
LONG = "hello " * 2000
"""Enough to be 1000 tokens of anybody's."""


@pytest.fixture
def tiered(scene: Scene, admin: Admin) -> Scene:
    admin.set_price(scene.model, scene.rates, service_tiers=TIERS)
    return scene


def cost(tier: str | None) -> Decimal:
    rates = {meter: Decimal(rate) for meter, rate in (RATES | TIERS.get(tier or "", {})).items()}
    return (600 * rates["input"] + 400 * rates["cache_read"] + 100 * rates["output"]) / 1_000_000


def assert_ran_at(scene: Scene, tier: str | None) -> None:
    row = scene.row()
    assert (row["input_tokens"], row["cache_read_tokens"], row["output_tokens"]) == (1000, 400, 100)
    assert row["charge"] == cost(tier)
    assert json.loads(row["price"]).get("service_tier") == tier
    assert row["flags"] is None


def streams(scene: Scene, *events: Any) -> None:
    scene.upstream.stream(list(events))


class TestEachProtocol:
    def test_chat(self, tiered: Scene) -> None:
        tiered.upstream.answer(body=json.dumps({"choices": [], "usage": CHAT, "service_tier": "flex"}).encode())
        tiered.post(tiered.chat(LONG, service_tier="flex"))
        assert_ran_at(tiered, "flex")

    def test_a_stream_of_chat(self, tiered: Scene) -> None:
        words = {"choices": [{"index": 0, "delta": {"content": "hello"}}], "service_tier": "priority", "usage": None}
        streams(tiered, words, {"choices": [], "service_tier": "priority", "usage": CHAT}, "[DONE]")
        tiered.post(tiered.chat(LONG, stream=True))
        assert_ran_at(tiered, "priority")

    def test_a_stream_of_responses(self, tiered: Scene) -> None:
        started = {"type": "response.created", "response": {"service_tier": "flex", "usage": None}}
        streams(tiered, started, {"type": "response.completed", "response": {"service_tier": "default", "usage": RESPONSES}})
        tiered.post({"model": tiered.model, "input": LONG, "service_tier": "flex", "stream": True}, "/v1/responses")
        assert_ran_at(tiered, None)

    def test_a_stream_of_messages_in_fast_mode(self, tiered: Scene) -> None:
        begun = {"type": "message_start", "message": {"usage": MESSAGES | {"service_tier": "standard", "speed": "fast"}}}
        ended = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 100}}
        streams(tiered, begun, ended, {"type": "message_stop"})
        tiered.post(tiered.chat(LONG, max_tokens=200, stream=True, speed="fast"), "/v1/messages")
        assert_ran_at(tiered, "fast")

    def test_gemini(self, tiered: Scene) -> None:
        told = {"candidates": [{"finishReason": "STOP"}], "usageMetadata": GEMINI | {"serviceTier": "flex"}}
        tiered.upstream.answer(body=json.dumps(told).encode())
        asked = {"contents": [{"role": "user", "parts": [{"text": LONG}]}], "serviceTier": "flex"}
        tiered.post(asked, f"/v1beta/models/{tiered.model}:generateContent")
        assert_ran_at(tiered, "flex")


def test_a_tier_that_has_no_rates_is_billed_at_the_base_and_flagged(tiered: Scene) -> None:
    tiered.upstream.answer(body=json.dumps({"choices": [], "usage": CHAT, "service_tier": "scale"}).encode())

    tiered.post(tiered.chat(LONG))

    row = tiered.row()
    assert (row["charge"], row["flags"]) == (cost(None), ["unpriced:service_tier:scale"])
    assert "service_tier" not in json.loads(row["price"])


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"service_tier": "default"}, 200),
        ({"service_tier": "flex"}, 200),
        ({"service_tier": "auto"}, 402),
        ({"service_tier": "priority"}, 402),
        ({}, 402),
    ],
    ids=str,
)
def test_prepaid_credit_covers_the_dearest_tier_in_reach(
    new_scene: Callable[..., Scene], admin: Admin, fields: dict[str, str], status: int
) -> None:
    scene = new_scene(credit="0.03", rates={"input": "0", "output": "10"})
    admin.set_price(scene.model, scene.rates, service_tiers={"flex": {"output": "5"}, "priority": {"output": "20"}})

    assert scene.post(scene.chat(max_tokens=2000, **fields)).status_code == status


def test_a_stream_that_breaks_before_it_told_its_tier_is_billed_at_the_one_asked_for(tiered: Scene) -> None:
    words = {"choices": [{"index": 0, "delta": {"content": "hello there"}}]}
    tiered.upstream.cut([words, words], after=2)

    tiered.post(tiered.chat(stream=True, service_tier="flex"))

    row = tiered.row()
    assert (row["usage_source"], json.loads(row["price"])["service_tier"]) == ("estimated", "flex")
    assert row["charge"] == (row["input_tokens"] * Decimal("1.25") + row["output_tokens"] * 5) / 1_000_000 > 0


def test_a_price_is_set_and_shown_with_its_tiers(scene: Scene, admin: Admin) -> None:
    tiers = [
        {"above_input_tokens": 100, "rates": {"input": "5"}, "service_tiers": {"flex": {"input": "2"}}},
        {"above_input_tokens": 200, "service_tiers": {"flex": {"input": "3"}}},
    ]

    made = admin.set_price(scene.model, RATES, service_tiers=TIERS, tiers=tiers)

    [shown] = [price for price in admin.listed("/admin/prices") if price["model"] == scene.model]
    assert shown == made
    assert shown["service_tiers"] == TIERS
    assert shown["tiers"] == [tiers[0], {**tiers[1], "rates": {}}]


@pytest.mark.parametrize(
    "wrong", [{"auto": {"input": "1"}}, {"flex": {"inptu": "1"}}, {"flex": {}}, {"flex": {"input": "-1"}}, {"": {"input": "1"}}, [], "flex"]
)
def test_service_tiers_that_make_no_sense(scene: Scene, admin: Admin, wrong: object) -> None:
    answer = admin.http.put(f"/admin/prices/{scene.model}", json={"rates": RATES, "service_tiers": wrong})

    assert answer.status_code == 422
