"""What a call may cost: one that is bounded never more than was held, an open-ended one what it used, as far as credit
goes; and who may make it."""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from app.gateway.protocols.chat_bound import IMAGE_TOKENS
from tests.acceptance.refusals import assert_envelope, assert_one_free_failed_row
from tests.faults.test_upstream_misbehaves import WORDS
from tests.harness.admin import Admin
from tests.harness.answers import Gate, Usage
from tests.harness.books import charge, wait_until
from tests.harness.proxy import Proxy
from tests.harness.scene import RATES, Scene

PICTURE = [{"type": "text", "text": "what is it?"}, {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"properties": {"model": {}, "n": {}, "type": {}}}}}
MUCH = Usage(input=40_000, output=10)
OPEN_ENDED: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": PICTURE}]},
    {"search_parameters": {"mode": "on"}},
    {"web_search_options": {}},
    {"tools": [{"type": "web_search"}]},
]


def answered(scene: Scene, usage: Usage, **fields: Any) -> dict[str, Any]:
    """The row of a call that the upstream says has used so much."""
    scene.upstream.answer(json={"choices": [{"index": 0, "message": {"content": "a cat"}}], "usage": usage.chat()})
    answer = scene.post(scene.chat(max_tokens=10) | fields)
    assert answer.status_code == 200, answer.text
    return scene.row()


@pytest.mark.parametrize("fields", OPEN_ENDED, ids=["image by URL", "search_parameters", "web_search_options", "server tool"])
def test_an_open_ended_call_is_charged_what_it_used_from_free_credit(scene: Scene, fields: dict[str, Any]) -> None:
    row = answered(scene, MUCH, **fields)

    assert row["charge"] == charge(RATES, row) == Decimal("0.1001")
    assert (row["write_off"], row["flags"], row["status"]) == (0, None, "success")


def test_beyond_free_credit_an_open_ended_call_is_written_off(new_scene: Callable[..., Scene]) -> None:
    scene = new_scene(credit="0.05")

    row = answered(scene, MUCH, messages=[{"role": "user", "content": PICTURE}])

    assert (row["charge"], row["write_off"]) == (Decimal("0.05"), Decimal("0.0501"))
    assert (row["bill"], scene.account()["written_off"]) == (Decimal("0.05"), Decimal("0.0501"))


@pytest.mark.parametrize("fields", [{}, {"tools": [FUNCTION]}], ids=["text", "function tool"])
def test_a_call_that_is_all_text_is_never_charged_more_than_was_held(scene: Scene, fields: dict[str, Any]) -> None:
    row = answered(scene, MUCH, **fields)

    assert row["flags"] == ["cut_at_hold"]
    assert 0 < row["charge"] < Decimal("0.002")


def test_an_image_is_held_by_its_allowance_and_not_by_its_bytes(new_scene: Callable[..., Scene]) -> None:
    scene = new_scene(credit="0.02")
    small = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]
    large = [{"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 400_000}}]
    with_small, with_large = (scene.chat(max_tokens=10) | {"messages": [{"role": "user", "content": it}]} for it in (small, large))

    for body in (with_small, with_large):
        scene.upstream.answer(json={"choices": [], "usage": Usage(1, 1).chat()})
        assert scene.post(body).status_code == 200

    poor = new_scene(credit="0.007")
    assert_envelope(poor.post(with_small | {"model": poor.model}), 402)


@pytest.mark.parametrize("url", ["https://example.org/a.png", "data:image/png;base64," + "A" * 50_000], ids=["fetched", "inline"])
def test_a_stream_about_an_image_that_the_client_leaves_is_estimated_with_the_images_allowance(scene: Scene, url: str) -> None:
    scene.upstream.stream(WORDS, pauses={3: Gate()})
    body = scene.chat(stream=True) | {
        "messages": [{"role": "user", "content": [PICTURE[0], {"type": "image_url", "image_url": {"url": url}}]}]
    }

    with scene.http.stream("POST", "/v1/chat/completions", json=body) as answer:
        lines = answer.iter_lines()
        wait_until(lambda: "blue" in next(lines), what="the third word")

    row = scene.row()
    assert (row["end_reason"], row["usage_source"]) == ("client_gone", "estimated")
    assert IMAGE_TOKENS + 4 <= row["input_tokens"] <= IMAGE_TOKENS + 10
    assert row["output_tokens"] == 3
    assert row["charge"] == charge(RATES, row) > 0


@pytest.mark.parametrize("more", ['"max_tokens": 9', '"Model": "dear"', r'"\u006dax_tokens": 9', '"n": 1, "n": 2'])
def test_a_decisive_field_that_can_be_read_in_two_ways_goes_nowhere(scene: Scene, more: str) -> None:
    body = json.dumps(scene.chat(max_tokens=1))[:-1] + ", " + more + "}"

    assert_envelope(scene.post(content=body.encode()), 400, "ambiguous_field")
    scene.assert_nothing_happened()
    assert_one_free_failed_row(scene, 400)


def test_the_old_secret_of_a_rotated_key_is_refused_at_once_by_a_process_that_knows_it(
    scene: Scene, admin: Admin, proxies: Callable[..., Proxy]
) -> None:
    other = proxies()
    scene.known_to(other)
    elsewhere = f"{other.url}/v1/chat/completions"
    assert scene.post(scene.chat(), elsewhere).status_code == 200

    rotated = admin.ask("POST", f"/admin/keys/{scene.key_id}/rotate")

    assert_envelope(scene.post(scene.chat(), elsewhere), 401)
    assert_envelope(scene.post(scene.chat()), 401)
    assert len(scene.upstream.requests) == 1
    assert scene.post(scene.chat(), elsewhere, headers={"Authorization": f"Bearer {rotated['key']}"}).status_code == 200
