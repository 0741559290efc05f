"""`/metrics` of a running proxy: what calls leave in it, and who may read it."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.harness.books import wait_until
from tests.harness.metrics import Scraped
from tests.harness.scene import Scene

CALLS = "billing_proxy_calls_total"
USAGE = {"prompt_tokens": 40, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 30}}
HELD = 0.3
"""Seconds for which an upstream keeps a call."""
_OF_MODELS = ("model", "gen_ai_request_model")
PAID = (10 * 2.5 + 30 * 0.25 + 7 * 10) / 1_000_000


def scraped(scene: Scene) -> Scraped:
    return Scraped.of(scene.proxy.url)


def upstream_name(scene: Scene) -> str:
    return str(next(one["name"] for one in scene.admin.listed("/admin/upstreams") if one["id"] == scene.upstream_id))


def test_calls_are_counted_as_their_rows_have_them(new_scene: Callable[..., Scene]) -> None:
    scene = new_scene(credit="1")
    name = upstream_name(scene)
    answer = {"id": "c", "choices": [{"message": {"role": "assistant", "content": "hi"}}], "usage": USAGE}
    scene.upstream.answer(json=answer)
    assert scene.post(scene.chat()).status_code == 200
    assert scene.post(scene.chat(stream=True)).status_code == 200
    scene.upstream.answer(json={"error": {}}, status=400)
    assert scene.post(scene.chat()).status_code == 400
    assert scene.post(scene.chat(max_tokens=200_000)).status_code == 402
    wait_until(lambda: len(scene.rows()) == 4, what="a row of each")

    found = scraped(scene)

    counted = {
        (labels["api"], labels["upstream"], labels["status"], labels["end_reason"], labels["usage_source"]): value
        for labels, value in ((dict(own), value) for own, value in found.found(CALLS, model=scene.model).items())
    }
    assert counted == {
        ("chat.completions", name, "success", "completed", "provider"): 2,
        ("chat.completions", name, "failed", "upstream_error", "none"): 1,
        ("chat.completions", name, "failed", "refused", "none"): 1,
    }
    operation = {"gen_ai_operation_name": "chat", "gen_ai_request_model": scene.model}
    assert found.sum("gen_ai_client_operation_duration_seconds_count", **operation) == 4
    assert found.sum("gen_ai_client_operation_time_to_first_chunk_seconds_count", **operation) == 1
    assert found.sum("billing_proxy_upstream_attempts_total", upstream=name, http_status="200") == 2
    assert found.sum("billing_proxy_upstream_attempts_total", upstream=name, http_status="400") == 1
    rows = scene.rows()
    for kind, column in (("input", "input_tokens"), ("output", "output_tokens")):
        tokens = sum(row[column] for row in rows)
        assert found.sum("billing_proxy_tokens_total", model=scene.model, kind=kind, usage_source="provider") == tokens
        assert found.sum("gen_ai_client_token_usage_sum", **operation, gen_ai_token_type=kind) == tokens
    assert found.sum("billing_proxy_tokens_total", model=scene.model, kind="cache_read") == 30
    charged = float(sum(row["charge"] for row in rows))
    assert found.sum("billing_proxy_charge_total", model=scene.model) == pytest.approx(charged)
    assert charged > PAID


def test_what_the_proxy_adds_leaves_the_upstreams_time_out(scene: Scene) -> None:
    before = scraped(scene)
    gate = scene.upstream.hold()
    with ThreadPoolExecutor(1) as pool:
        asked = time.monotonic()
        call = pool.submit(scene.post, scene.chat())
        wait_until(lambda: scene.upstream.requests, what="the call upstream")
        arrived = time.monotonic()
        wait_until(lambda: time.monotonic() - arrived > HELD, what="some time")
        held = time.monotonic() - arrived
        gate.open()
        assert call.result(20).status_code == 200
        took = time.monotonic() - asked

    after = scraped(scene)

    count, total = "billing_proxy_overhead_seconds_count", "billing_proxy_overhead_seconds_sum"
    assert after.sum(count) == before.sum(count) + 1
    assert 0 < after.sum(total) - before.sum(total) < took - held
    duration = after.sum("gen_ai_client_operation_duration_seconds_sum", gen_ai_request_model=scene.model)
    assert held < duration < took + 0.001  # it is told in whole milliseconds


def test_names_that_clients_invent_make_no_series(scene: Scene) -> None:
    before = scraped(scene)
    scene.admin.add_upstream(f"relay-{scene.model}", scene.upstream.url, [f"{scene.model}/*"])
    for number in range(5):
        assert scene.post(scene.chat() | {"model": f"{scene.model}-invented-{number}"}).status_code == 404
        assert scene.post(scene.chat() | {"model": f"{scene.model}/{number}"}).status_code == 404
    wait_until(lambda: len(scene.rows()) == 10, what="a row of each")

    after = scraped(scene)

    assert after.sum(CALLS, model="other") == before.sum(CALLS, model="other") + 10
    assert [labels for _, labels in after.series if any(scene.model in value for key, value in labels if key in _OF_MODELS)] == []
    refused = {
        code: after.sum("billing_proxy_refusals_total", code=code) - before.sum("billing_proxy_refusals_total", code=code)
        for code in ("model_not_found", "model_not_priced")
    }
    assert refused == {"model_not_found": 5, "model_not_priced": 5}


def test_a_cost_that_is_written_off_is_told_apart_from_what_is_charged(new_scene: Callable[..., Scene]) -> None:
    scene = new_scene(credit="0.001")
    scene.admin.ask("PUT", f"/admin/models/{scene.model}", json={"context_tokens": 200})
    before = scraped(scene).sum("billing_proxy_write_off_total")
    usage = {"prompt_tokens": 1000, "completion_tokens": 1000, "total_tokens": 2000}
    scene.upstream.answer(json={"id": "c", "choices": [{"message": {"role": "assistant", "content": "hi"}}], "usage": usage})
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]}
    assert scene.post(scene.chat(max_tokens=5) | {"messages": [image]}).status_code == 200
    row = scene.row()
    assert row["write_off"] > 0

    found = scraped(scene)

    assert found.sum("billing_proxy_write_off_total") - before == pytest.approx(float(row["write_off"]))
    assert found.sum("billing_proxy_charge_total", model=scene.model) == pytest.approx(float(row["charge"]))


def test_who_may_read_metrics(scene: Scene) -> None:
    def status(token: str | None) -> int:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.get(f"{scene.proxy.url}/metrics", headers=headers, trust_env=False).status_code

    viewer = scene.admin.ask("POST", "/admin/tokens", json={"name": f"prometheus-{scene.model}", "role": "viewer"})["token"]
    assert status(viewer) == 200
    assert [status(other) for other in (None, "", "wrong", scene.key)] == [401] * 4


def test_each_call_is_one_line_in_the_log_without_what_was_said(scene: Scene) -> None:
    spoken, secret = "the prompt 5b1f", "the answer 77c2"
    scene.upstream.answer(json={"id": "c", "choices": [{"message": {"role": "assistant", "content": secret}}], "usage": USAGE})
    answer = scene.post(scene.chat(spoken, user="somebody"))
    scene.upstream.answer(json={"error": {"message": secret}}, status=400)
    scene.post(scene.chat(spoken))

    def lines() -> list[dict[str, Any]]:
        return [json.loads(line) for line in scene.proxy.output().splitlines() if f'"user_id":"{scene.user}"' in line]

    wait_until(lambda: len(lines()) == 2, what="a line of each")
    first, second = lines()
    row = scene.rows()[0]
    assert first["timestamp"].endswith("Z")
    assert {name: first[name] for name in first if name not in ("timestamp", "latency_ms")} == {
        "event": "call",
        "level": "info",
        "request_id": answer.headers["x-request-id"],
        "user_id": scene.user,
        "api_key_id": scene.key_id,
        "api": "chat.completions",
        "model": scene.model,
        "upstream": upstream_name(scene),
        "is_stream": False,
        "status": "success",
        "end_reason": "completed",
        "http_status": 200,
        "input_tokens": 40,
        "output_tokens": 7,
        "usage_source": "provider",
        "charge": f"{row['charge']:f}",
        "first_token_ms": None,
    }
    assert first["latency_ms"] == row["latency_ms"]
    assert (second["status"], second["end_reason"], second["http_status"], second["charge"]) == ("failed", "upstream_error", 400, "0")
    output = scene.proxy.output()
    assert not [text for text in (spoken, secret, scene.key) if text in output]
