"""The service tier that an answer tells, in each protocol's way, is read with its usage; and what a request asks for."""

import json
from typing import Any

import pytest

from app.billing.usage import Usage
from app.errors import InvalidRequest
from app.gateway.metering.meter import StreamMeter
from app.gateway.protocols import PROTOCOLS, Asked
from tests.harness.answers import sse

PROTOCOL_OF = {protocol.api: protocol for protocol in PROTOCOLS}
CHAT = {"prompt_tokens": 10, "completion_tokens": 2}
TOKENS = {"input_tokens": 10, "output_tokens": 2}
GEMINI = {"promptTokenCount": 10, "candidatesTokenCount": 2, "totalTokenCount": 12}


@pytest.mark.parametrize(
    ("api", "answer", "tier"),
    [
        ("chat.completions", {"usage": CHAT, "service_tier": "flex"}, "flex"),
        ("chat.completions", {"usage": CHAT, "service_tier": "default"}, None),
        ("chat.completions", {"usage": CHAT, "service_tier": None}, None),
        ("chat.completions", {"usage": CHAT, "service_tier": 7, "x": {"service_tier": "flex"}}, None),
        ("responses", {"usage": TOKENS, "service_tier": "priority", "metadata": {"service_tier": "flex"}}, "priority"),
        ("messages", {"usage": TOKENS | {"service_tier": "priority"}}, "priority"),
        ("messages", {"usage": TOKENS | {"service_tier": "standard", "speed": "fast"}}, "fast"),
        ("messages", {"usage": TOKENS | {"service_tier": "standard", "speed": "standard"}}, None),
        ("generateContent", {"usageMetadata": GEMINI | {"serviceTier": "flex"}}, "flex"),
        ("generateContent", {"usageMetadata": GEMINI | {"serviceTier": "standard"}}, None),
    ],
)
def test_of_a_whole_answer(api: str, answer: dict[str, Any], tier: str | None) -> None:
    usage = PROTOCOL_OF[api].usage_of(json.dumps(answer).encode())

    assert usage == Usage(input_tokens=10, output_tokens=2)
    assert usage.service_tier == tier


@pytest.mark.parametrize(
    ("api", "events", "tier"),
    [
        ("chat.completions", [{"choices": [], "usage": CHAT, "service_tier": "flex"}, "[DONE]"], "flex"),
        (
            "responses",
            [
                {"type": "response.created", "response": {"service_tier": "auto"}},
                {"type": "response.completed", "response": {"service_tier": "priority", "usage": TOKENS}},
            ],
            "priority",
        ),
        (
            "messages",
            [
                {"type": "message_start", "message": {"usage": TOKENS | {"service_tier": "priority"}}},
                {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
                {"type": "message_stop"},
            ],
            "priority",
        ),
        (
            "generateContent",
            [
                {"usageMetadata": GEMINI | {"serviceTier": "flex"}},
                {"candidates": [{"finishReason": "STOP"}], "usageMetadata": GEMINI | {"serviceTier": "flex"}},
            ],
            "flex",
        ),
    ],
)
def test_of_a_stream(api: str, events: list[Any], tier: str) -> None:
    meter = StreamMeter(PROTOCOL_OF[api], strips=False)
    for event in events:
        meter.feed(sse(event))
    meter.finish()

    assert meter.usage == Usage(input_tokens=10, output_tokens=2)
    assert meter.usage.service_tier == tier
    assert meter.reports.flags() == []


@pytest.mark.parametrize(
    ("rest", "tier"),
    [({"service_tier": "flex"}, "flex"), ({"service_tier": "flex", "metadata": {"service_tier": "scale"}}, None), ({}, None)],
)
def test_of_the_end_of_an_answer_too_large_to_be_kept(rest: dict[str, Any], tier: str | None) -> None:
    whole = json.dumps({"output": "x" * 100, "usage": TOKENS, **rest}).encode()

    usage = PROTOCOL_OF["responses"].usage_of(whole[50:])

    assert usage == Usage(input_tokens=10, output_tokens=2)
    assert usage.service_tier == tier


MESSAGES = {"model": "m", "messages": [{"role": "user", "content": "x"}]}


@pytest.mark.parametrize(
    ("api", "request_body", "asked"),
    [
        ("chat.completions", MESSAGES, "auto"),
        ("chat.completions", MESSAGES | {"service_tier": None}, "auto"),
        ("chat.completions", MESSAGES | {"service_tier": "Priority"}, "priority"),
        ("chat.completions", MESSAGES | {"service_tier": ["priority"]}, "auto"),
        ("completions", {"model": "m", "prompt": "x", "service_tier": "flex"}, "flex"),
        ("responses", {"model": "m", "input": "x", "service_tier": "default"}, "default"),
        ("messages", MESSAGES | {"service_tier": "standard_only"}, "standard_only"),
        ("messages", MESSAGES | {"service_tier": "standard_only", "speed": "fast"}, "fast"),
        ("messages", MESSAGES | {"speed": "standard"}, "auto"),
        ("generateContent", {"contents": []}, "standard"),
        ("generateContent", {"contents": [], "service_tier": "priority"}, "priority"),
        ("generateContent", {"contents": [], "serviceTier": 3}, "auto"),
    ],
)
def test_what_a_request_asks_for(api: str, request_body: dict[str, Any], asked: str) -> None:
    assert PROTOCOL_OF[api].read(json.dumps(request_body).encode(), Asked(model="m")).service_tier == asked


@pytest.mark.parametrize(
    ("api", "begin", "field"),
    [
        ("chat.completions", MESSAGES, "service_tier"),
        ("responses", {"model": "m", "input": "x"}, "service_tier"),
        ("messages", MESSAGES | {"max_tokens": 9}, "speed"),
        ("generateContent", {"contents": []}, "serviceTier"),
    ],
)
def test_it_stands_in_a_request_once(api: str, begin: dict[str, Any], field: str) -> None:
    doubled = json.dumps(begin)[:-1] + f', "{field}": "default", "{field}": "fast"}}'

    with pytest.raises(InvalidRequest) as refusal:
        PROTOCOL_OF[api].read(doubled.encode(), Asked(model="m"))
    assert refusal.value.code == "ambiguous_field"
