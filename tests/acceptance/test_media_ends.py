"""Calls of media that are refused, break off, or are answered with what is no answer: what is held, and what is billed."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.acceptance.refusals import assert_envelope
from tests.harness.answers import Gate
from tests.harness.forms import FORM, hearing, sound
from tests.harness.honest_media import IMAGE
from tests.harness.scene import Scene

NewScene = Callable[..., Scene]
IMAGES, SPEECH, HEARING = "/v1/images/generations", "/v1/audio/speech", "/v1/audio/transcriptions"
PARTIAL = {"type": "image_generation.partial_image", "b64_json": IMAGE, "partial_image_index": 0}
DELTA = {"type": "speech.audio.delta", "audio": "c291bmQ="}


def assert_billed(scene: Scene, charge: str, **columns: Any) -> None:
    row = scene.row()
    assert row["charge"] == Decimal(charge)
    assert {name: row[name] for name in columns} == columns
    assert scene.account()["held"] == 0


def asked(scene: Scene, **fields: Any) -> dict[str, Any]:
    return {"model": scene.model, "prompt": "a lighthouse"} | fields


@pytest.mark.parametrize(("credit", "status"), [("0.0799", 402), ("0.08", 200)])
def test_images_are_held_for_whole(new_scene: NewScene, credit: str, status: int) -> None:
    scene = new_scene(rates={"image": "0.01", "image:hd:1024x1024": "0.04"}, credit=credit)

    answer = scene.post(asked(scene, n=2, quality="hd", size="1024x1024"), IMAGES)

    assert answer.status_code == status
    if status == 402:
        assert "may cost up to 0.08" in assert_envelope(answer, 402)["message"]
        assert "output limit" not in answer.text
        scene.assert_nothing_happened()
    else:
        assert scene.account()["spent"] == Decimal("0.08")


def test_where_the_quality_is_left_open_the_dearest_is_held_for(new_scene: NewScene) -> None:
    scene = new_scene(rates={"image": "0.01", "image:high": "0.2"}, credit="0.1")

    assert scene.post(asked(scene), IMAGES).status_code == 402
    assert scene.post(asked(scene, quality="low", size="1024x1024"), IMAGES).status_code == 200


def test_an_image_whose_tokens_can_not_be_limited_is_refused(new_scene: NewScene) -> None:
    scene = new_scene(rates={"input": "5", "image_output": "40"}, credit="0.2")

    assert "output limit" not in assert_envelope(scene.post(asked(scene), IMAGES), 402)["message"]
    scene.assert_nothing_happened()


def test_characters_are_held_for_exactly(new_scene: NewScene) -> None:
    scene = new_scene(rates={"character": "0.00001"}, credit="0.001")

    assert scene.post({"model": scene.model, "input": "x" * 101, "voice": "alloy"}, SPEECH).status_code == 402
    assert scene.post({"model": scene.model, "input": "世" * 100, "voice": "alloy"}, SPEECH).status_code == 200
    assert scene.account()["spent"] == Decimal("0.001")


def test_a_file_that_is_longer_than_it_says_never_overdraws(new_scene: NewScene) -> None:
    scene = new_scene(rates={"second": "0.01"}, credit="0.05")
    scene.upstream.answer(json={"text": "", "usage": {"type": "duration", "seconds": 900}})

    assert scene.http.post(HEARING, content=hearing(scene.model, sound(3)), headers={"content-type": FORM}).status_code == 200
    assert_billed(scene, "0.05", write_off=Decimal("8.95"))


@pytest.mark.parametrize(("events", "charge", "source"), [([PARTIAL], "0.08", "estimated"), ([], "0", "none")])
def test_a_stream_of_images_that_breaks_off(new_scene: NewScene, events: list[dict[str, Any]], charge: str, source: str) -> None:
    scene = new_scene(rates={"image": "0.08"})
    scene.upstream.cut([*events, PARTIAL], after=len(events))

    answer = scene.post(asked(scene, stream=True), IMAGES)

    assert "upstream_broken" in answer.text
    assert_billed(scene, charge, status="failed", end_reason="upstream_broken", usage_source=source)


def test_a_client_that_leaves_streamed_speech_pays_its_characters(new_scene: NewScene) -> None:
    scene = new_scene(rates={"character": "0.00001"})
    scene.upstream.stream([DELTA, DELTA], pauses={1: Gate()})

    with scene.http.stream("POST", SPEECH, json={"model": scene.model, "input": "Hello", "voice": "x", "stream_format": "sse"}) as answer:
        next(answer.iter_bytes())

    assert_billed(scene, "0.00005", status="success", end_reason="client_gone", usage_source="estimated")
    assert scene.upstream.requests[0].gone.wait(10)


@pytest.mark.parametrize(
    ("path", "body", "answer"),
    [
        (IMAGES, {"prompt": "x"}, b"<html>busy</html>"),
        (IMAGES, {"prompt": "x"}, b'{"error": {"message": "busy"}}'),
        (SPEECH, {"input": "x", "voice": "y"}, b'{"error": {"message": "busy"}}'),
        (SPEECH, {"input": "x", "voice": "y"}, b""),
    ],
)
def test_what_is_no_answer_bills_nothing(new_scene: NewScene, path: str, body: dict[str, Any], answer: bytes) -> None:
    scene = new_scene(rates={"image": "0.08", "character": "0.1"})
    scene.upstream.answer(body=answer)

    got = scene.post({"model": scene.model} | body, path)

    assert (got.status_code, got.content) == (200, answer)
    assert_billed(scene, "0", status="failed", end_reason="upstream_empty", usage_source="none")


def test_tokens_of_images_that_nobody_reports_are_estimated(new_scene: NewScene) -> None:
    scene = new_scene(rates={"input": "5", "image_output": "40"})

    assert scene.post(asked(scene, n=2, quality="low"), IMAGES).status_code == 200
    assert_billed(scene, str(Decimal(2 * 408 * 40 + 2 * 5) / 1_000_000), usage_source="estimated", output_tokens=816, input_tokens=2)


def test_what_dall_e_leaves_unsaid_is_what_it_is_documented_to_be(new_scene: NewScene) -> None:
    scene = new_scene(model="dall-e-3", rates={"image:standard:1024x1024": "0.04", "image:hd:1024x1024": "0.08"})

    assert scene.post(asked(scene), IMAGES).status_code == 200
    assert_billed(scene, "0.04", flags=None)


def test_an_image_without_any_rate_is_named(new_scene: NewScene) -> None:
    scene = new_scene(rates={"character": "1"})

    assert scene.post(asked(scene), IMAGES).status_code == 200
    assert "unpriced:image" in scene.row()["flags"]


def test_an_edit_by_address_goes_up_as_json(new_scene: NewScene) -> None:
    scene = new_scene(rates={"image": "0.08"})
    body = asked(scene, images=[{"image_url": "https://example.com/a.png"}], size="1024x1024", quality="low")

    assert scene.post(body, "/v1/images/edits").status_code == 200
    assert scene.upstream.requests[0].json == body | {"model": "stand-in"}
    assert_billed(scene, "0.08", api="images.edits")


def test_azures_path_names_the_model_of_an_image(new_scene: NewScene) -> None:
    scene = new_scene(rates={"image": "0.08"})

    assert scene.post({"prompt": "x"}, f"/openai/deployments/{scene.model}/images/generations").status_code == 200
    assert scene.upstream.requests[0].json == {"prompt": "x", "model": "stand-in"}


def test_a_moderation_without_a_model_is_for_the_usual_one(new_scene: NewScene) -> None:
    scene = new_scene(model="omni-moderation-latest", rates={}, upstream_model="omni-moderation-latest")

    assert scene.post({"input": "x"}, "/v1/moderations").status_code == 200
    assert scene.upstream.requests[0].json == {"input": "x"}
    assert_billed(scene, "0", model_name="omni-moderation-latest", usage_source="none", flags=None)


@pytest.mark.parametrize("path", ["/v2/rerank", "/rerank", "/audio/speech", "/v1/images/edits"])
def test_refusals_are_in_openais_envelope(new_scene: NewScene, path: str) -> None:
    scene = new_scene()

    assert_envelope(scene.http.post(path, content=b"{"), 400)
    assert_envelope(httpx.post(scene.proxy.url + path, json={}, trust_env=False), 401)
