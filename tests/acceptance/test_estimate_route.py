"""`POST /v1/estimate` tells what a call would hold and cost, as the call itself shows, and does nothing else."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from tests.harness.scene import Scene


def asked(scene: Scene, request: dict[str, Any], **more: Any) -> dict[str, Any]:
    answer = scene.post({"request": request, **more}, "/v1/estimate")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_what_is_told_is_what_the_call_needs(new_scene: Callable[..., Scene]) -> None:
    scene = new_scene(credit="0")
    call = scene.chat("one two three", max_tokens=40)
    told = asked(scene, call)
    assert not told["fits"]
    scene.assert_nothing_happened()
    assert scene.rows() == []

    needed = Decimal(told["ceiling"])
    in_credit = needed.quantize(Decimal("0.0001"), rounding="ROUND_UP")
    scene.admin.add_credit(scene.user, str(in_credit - Decimal("0.0001")))
    assert not asked(scene, call)["fits"]
    assert scene.post(call).status_code == 402
    scene.admin.add_credit(scene.user, "0.0001")
    assert asked(scene, call)["fits"]
    assert scene.post(call).status_code == 200


def test_counts_cost_what_the_row_of_the_same_counts_costs(scene: Scene) -> None:
    scene.admin.ask("POST", "/admin/groups", json={"name": scene.user, "multiplier": "0.5"})
    scene.admin.ask("PATCH", f"/admin/users/{scene.user}", json={"group": scene.user})
    call = scene.chat("one two three")
    assert scene.post(call).status_code == 200
    row = scene.row()
    counts = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")

    told = asked(scene, call, usage={name: row[name] for name in counts})

    assert Decimal(told["cost"]) == row["charge"] > 0
    assert (told["multiplier"], told["unpriced"], told["api"]) == ("0.500000", [], "chat.completions")
    assert sum(Decimal(item["amount"]) for item in told["line_items"]) * Decimal("0.5") == row["charge"]


def test_the_output_limit_that_would_be_set_is_the_one_that_is(new_scene: Callable[..., Scene]) -> None:
    scene = new_scene(credit="0.01")
    call = scene.chat("one two three")
    told = asked(scene, call)
    answer = scene.post(call)

    assert told["fits"]
    assert str(told["max_tokens_applied"]) == answer.headers["x-max-tokens-applied"]


def test_any_path_that_calls_a_model_may_be_asked_about(scene: Scene) -> None:
    gemini = {"contents": [{"parts": [{"text": "hi"}]}]}
    assert asked(scene, gemini, path=f"/v1beta/models/{scene.model}:generateContent")["api"] == "generateContent"
    body = {"model": scene.model, "max_tokens": 7, "messages": [{"role": "user", "content": "hi"}]}
    assert asked(scene, body, path="/v1/messages")["output_tokens"] == 7


def test_what_refuses_the_call_refuses_the_question(scene: Scene) -> None:
    refused = [
        (404, "unknown_url", {"path": "/v1/nothing", "request": {}}),
        (404, "model_not_found", {"request": {"model": "none", "messages": [{"role": "user", "content": "x"}]}}),
        (400, "invalid_type", {"request": {"model": 5}}),
        (422, "invalid_request", {"request": {}, "usage": {"input_tokens": -1}}),
    ]
    for status, code, body in refused:
        answer = scene.post(body, "/v1/estimate")
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert scene.http.post("/v1/estimate", json={"request": {}}, headers={"Authorization": "Bearer x"}).status_code == 401
    assert scene.rows() == []
