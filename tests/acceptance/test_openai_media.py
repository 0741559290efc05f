"""The official `openai` client's images, speech, transcriptions and moderations: what it gets, one row a call, and the bill
to the last digit, whether tokens, images, characters or seconds are what is billed."""

import io
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from tests.acceptance.conftest import BOTH, Connect, chunks, done
from tests.harness.forms import sound
from tests.harness.honest_media import HEARD_USAGE, IMAGE, IMAGE_USAGE, SOUND, SPEECH_USAGE, TEXT
from tests.harness.scene import Scene

NewScene = Callable[..., Scene]
GPT_IMAGE = {"input": "5", "image_input": "10", "image_output": "40"}
GPT_IMAGE_CHARGE = Decimal(13 * 5 + 50 * 10 + 1260 * 40) / 1_000_000
HEARING = {"input": "2.5", "audio_input": "6", "output": "10"}
HEARING_CHARGE = Decimal("2.5") * 10 / 1_000_000 + Decimal(6 * 30 + 10 * 7) / 1_000_000


def assert_row(scene: Scene, charge: Decimal | str, *, source: str = "provider", tokens: tuple[int, int] = (0, 0), **columns: Any) -> None:
    row = scene.row()
    assert (row["charge"], row["bill"]) == (Decimal(charge), round(Decimal(charge), 4))
    assert (row["status"], row["usage_source"], row["flags"]) == ("success", source, None)
    assert (row["input_tokens"], row["output_tokens"]) == tokens
    assert {name: row[name] for name in columns} == columns
    assert scene.account()["held"] == 0


def meters(scene: Scene) -> dict[str, int]:
    items = scene.http.get(f"/logs/{scene.row()['request_id']}").json()["line_items"]
    return {item["meter"]: item["quantity"] for item in items}


# images


@BOTH
async def test_images_that_report_tokens_are_billed_by_them(new_scene: NewScene, connect: Connect) -> None:
    scene = new_scene(rates=GPT_IMAGE | {"image": "9"}, upstream_model="gpt-image-1")

    made = await done(connect(scene).images.generate(model=scene.model, prompt="a lighthouse", n=2))

    assert [image.b64_json for image in made.data] == [IMAGE] * 2
    assert made.usage.total_tokens == IMAGE_USAGE["total_tokens"]
    assert_row(scene, GPT_IMAGE_CHARGE, tokens=(63, 1260), api="images.generations", is_stream=False)
    assert meters(scene) == {"input": 13, "image_input": 50, "image_output": 1260}


@pytest.mark.parametrize(
    ("rates", "asked", "charge"),
    [
        ({"image": "0.02", "image:hd": "0.03", "image:1024x1024": "0.05", "image:hd:1024x1792": "0.12"}, ("hd", "1024x1792"), "0.24"),
        ({"image": "0.02", "image:hd": "0.03", "image:1024x1024": "0.05", "image:hd:1024x1792": "0.12"}, ("hd", "1024x1024"), "0.10"),
        ({"image": "0.02", "image:hd": "0.03"}, ("hd", "1024x1024"), "0.06"),
        ({"image": "0.02", "image:hd": "0.03"}, ("standard", "1024x1024"), "0.04"),
    ],
)
async def test_other_images_are_counted_at_the_most_precise_rate(
    new_scene: NewScene, connect: Connect, rates: dict[str, str], asked: tuple[str, str], charge: str
) -> None:
    scene = new_scene(rates=rates)

    made = await done(connect(scene).images.generate(model=scene.model, prompt="a lighthouse", n=2, quality=asked[0], size=asked[1]))

    assert len(made.data) == 2
    assert_row(scene, charge)
    assert meters(scene) == {f"image:{asked[0]}:{asked[1]}": 2}


async def test_images_that_are_fewer_than_asked_for_are_billed_as_they_are(new_scene: NewScene, connect: Connect) -> None:
    scene = new_scene(rates={"image": "0.02"})
    scene.upstream.answer(json={"created": 1, "data": [{"url": "https://example.com/1.png"}]})

    await done(connect(scene).images.generate(model=scene.model, prompt="a lighthouse", n=4))

    assert_row(scene, "0.02")


async def test_what_the_answer_tells_of_quality_and_size_counts(new_scene: NewScene, connect: Connect) -> None:
    scene = new_scene(rates={"image:medium:1024x1536": "0.06", "image:high": "0.2"}, upstream_model="gpt-image-1")

    await done(connect(scene).images.generate(model=scene.model, prompt="a lighthouse", quality="auto"))

    assert_row(scene, "0.06", tokens=(63, 1260))


@BOTH
async def test_a_stream_of_images(new_scene: NewScene, connect: Connect) -> None:
    scene = new_scene(rates=GPT_IMAGE, upstream_model="gpt-image-1")

    stream = await done(connect(scene).images.generate(model=scene.model, prompt="a lighthouse", stream=True, partial_images=1))
    events = await chunks(stream)

    assert [event.type for event in events] == ["image_generation.partial_image", "image_generation.completed"]
    assert events[-1].b64_json == IMAGE
    assert_row(scene, GPT_IMAGE_CHARGE, tokens=(63, 1260), is_stream=True)


@BOTH
async def test_an_edit_of_two_images_goes_up_under_the_models_name_there(new_scene: NewScene, connect: Connect) -> None:
    scene = new_scene(rates=GPT_IMAGE, upstream_model="gpt-image-1")
    files = [("a.png", b"\x89PNG one\r\n--x", "image/png"), ("b.png", b"\x89PNG two", "image/png")]

    made = await done(connect(scene).images.edit(model=scene.model, image=files, prompt="at night", n=1, size="1024x1536"))

    assert made.data[0].b64_json == IMAGE
    [received] = scene.upstream.requests
    assert received.path == "/v1/images/edits"
    assert b'name="model"\r\n\r\ngpt-image-1\r\n' in received.body
    assert scene.model.encode() not in received.body
    assert all(content in received.body for _, content, _ in files)
    assert_row(scene, GPT_IMAGE_CHARGE, tokens=(63, 1260), api="images.edits")


async def test_a_streamed_edit(new_scene: NewScene, connect: Connect) -> None:
    scene = new_scene(rates=GPT_IMAGE, upstream_model="gpt-image-1")

    stream = await done(connect(scene).images.edit(model=scene.model, image=b"\x89PNG", prompt="at night", stream=True))

    assert [event.type for event in await chunks(stream)] == ["image_edit.partial_image", "image_edit.completed"]
    assert_row(scene, GPT_IMAGE_CHARGE, tokens=(63, 1260), is_stream=True)


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
async def test_variations(new_scene: NewScene, connect: Connect) -> None:
    scene = new_scene(rates={"image:512x512": "0.018"}, upstream_model="dall-e-2")

    made = await done(connect(scene).images.create_variation(model=scene.model, image=b"\x89PNG", n=3, size="512x512"))

    assert len(made.data) == 3
    assert_row(scene, "0.054", api="images.variations")


# speech


@BOTH
async def test_speech_is_billed_by_the_characters_and_comes_as_it_is_made(new_scene: NewScene, connect: Connect) -> None:
    scene = new_scene(rates={"character": "0.000015"})
    text = "Grüße, 世界 👋🏽"

    async def heard() -> bytes:
        speech = connect(scene).audio.speech.with_streaming_response
        asked = {"model": scene.model, "voice": "alloy", "input": text}
        if hasattr(manager := speech.create(**asked), "__aenter__"):
            async with manager as answer:
                return b"".join([piece async for piece in answer.iter_bytes()])
        with manager as answer:
            return b"".join(answer.iter_bytes())

    assert await heard() == b"".join(SOUND)
    assert_row(scene, Decimal("0.000015") * len(text), source="estimated", api="audio.speech")


async def test_streamed_speech_is_billed_by_what_its_end_reports(new_scene: NewScene) -> None:
    scene = new_scene(rates={"input": "0.6", "audio_output": "12"}, upstream_model="gpt-4o-mini-tts")

    answer = scene.post({"model": scene.model, "voice": "alloy", "input": "Hello", "stream_format": "sse"}, "/v1/audio/speech")

    assert answer.text.count("speech.audio.delta") == len(SOUND)
    used = SPEECH_USAGE["input_tokens"], SPEECH_USAGE["output_tokens"]
    assert_row(scene, (Decimal("0.6") * used[0] + 12 * used[1]) / 1_000_000, tokens=used, is_stream=True)


async def test_speech_priced_in_tokens_that_nobody_reports_is_estimated(new_scene: NewScene, connect: Connect) -> None:
    scene = new_scene(rates={"input": "0.6", "audio_output": "12"}, upstream_model="gpt-4o-mini-tts")

    await done(connect(scene).audio.speech.create(model=scene.model, voice="alloy", input="Hello there"))

    assert_row(scene, (Decimal("0.6") * 2 + 12 * 17) / 1_000_000, source="estimated", tokens=(2, 17))


# what is heard


@BOTH
async def test_a_transcription_that_reports_tokens(new_scene: NewScene, connect: Connect) -> None:
    scene = new_scene(rates=HEARING, upstream_model="gpt-4o-transcribe")
    recording = sound(2.5)

    heard = await done(connect(scene).audio.transcriptions.create(model=scene.model, file=("said.wav", recording)))

    assert heard.text == TEXT
    assert recording in scene.upstream.requests[0].body
    assert_row(scene, HEARING_CHARGE, tokens=(40, 7), api="audio.transcriptions", is_stream=False)


@pytest.mark.parametrize(
    ("upstream_model", "response_format", "source"),
    [
        ("whisper-1", "json", "provider"),
        ("whisper-1", "verbose_json", "provider"),
        ("local", "verbose_json", "provider"),
        ("local", "json", "estimated"),
        ("whisper-1", "text", "estimated"),
        ("whisper-1", "srt", "estimated"),
        ("whisper-1", "vtt", "estimated"),
    ],
)
async def test_a_transcription_is_billed_by_the_second(
    new_scene: NewScene, connect: Connect, upstream_model: str, response_format: str, source: str
) -> None:
    scene = new_scene(rates={"second": "0.0001"}, upstream_model=upstream_model)

    heard = await done(
        connect(scene).audio.transcriptions.create(model=scene.model, file=io.BytesIO(sound(8.47)), response_format=response_format)
    )

    assert TEXT in (heard if isinstance(heard, str) else heard.text)
    assert_row(scene, "0.0009", source=source)
    assert meters(scene) == {"second": 9}


async def test_a_file_that_says_it_is_short_is_billed_by_its_bytes(new_scene: NewScene, connect: Connect) -> None:
    """Behind the Xing header of an MP3 that tells of 40 frames are 2,280, of 26 ms each."""
    frame = b"\xff\xfb\xe0\x00" + b"\x00" * 1040
    xing = frame[:36] + b"Xing" + (3).to_bytes(4, "big") + (40).to_bytes(4, "big") + (10**6).to_bytes(4, "big")
    file = xing.ljust(len(frame), b"\x00") + frame * 2280
    scene = new_scene(rates={"second": "0.0001"}, upstream_model="whisper-1")

    await done(connect(scene).audio.transcriptions.create(model=scene.model, file=("said.mp3", file), response_format="srt"))

    row = scene.row()
    assert (row["charge"], row["usage_source"], row["flags"]) == (Decimal("0.0060"), "estimated", ["sound_length"])


async def test_seconds_of_a_model_that_is_priced_by_tokens_are_estimated(new_scene: NewScene, connect: Connect) -> None:
    scene = new_scene(rates=HEARING, upstream_model="whisper-1")

    await done(connect(scene).audio.transcriptions.create(model=scene.model, file=("said.wav", sound(10))))

    row = scene.row()
    assert (row["usage_source"], row["input_tokens"], row["output_tokens"]) == ("estimated", 130, 4)
    assert row["charge"] == Decimal(130 * 6 + 4 * 10) / 1_000_000


@BOTH
async def test_a_streamed_transcription(new_scene: NewScene, connect: Connect) -> None:
    scene = new_scene(rates=HEARING, upstream_model="gpt-4o-transcribe")

    stream = await done(connect(scene).audio.transcriptions.create(model=scene.model, file=("said.wav", sound(1)), stream=True))
    events = await chunks(stream)

    assert (events[-1].type, events[-1].text) == ("transcript.text.done", TEXT)
    assert events[-1].usage.total_tokens == HEARD_USAGE["total_tokens"]
    assert_row(scene, HEARING_CHARGE, tokens=(40, 7), is_stream=True)


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
async def test_a_translation(new_scene: NewScene, connect: Connect) -> None:
    scene = new_scene(rates={"second": "0.0001"}, upstream_model="whisper-1")

    heard = await done(connect(scene).audio.translations.create(model=scene.model, file=("said.wav", sound(3))))

    assert heard.text == TEXT
    assert scene.upstream.requests[0].path == "/v1/audio/translations"
    assert_row(scene, "0.0003", api="audio.translations")


# moderations and rerank


@BOTH
async def test_moderations_are_free(new_scene: NewScene, connect: Connect) -> None:
    scene = new_scene(credit="0", upstream_model="omni-moderation-latest")

    checked = await done(connect(scene).moderations.create(model=scene.model, input=["I want to", "paint a wall"]))

    assert not checked.results[0].flagged
    assert scene.upstream.requests[0].json["model"] == "omni-moderation-latest"
    assert_row(scene, "0", source="none", api="moderations")


SILICONFLOW = {"tokens": {"input_tokens": 100, "output_tokens": 0}, "billed_units": {"input_tokens": 100, "search_units": 0}}


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank"])
@pytest.mark.parametrize(
    ("told", "tokens", "charge"),
    [
        ({"usage": {"total_tokens": 300}}, 300, "0.000015"),
        ({"usage": {"prompt_tokens": 200, "total_tokens": 200}}, 200, "0.00001"),
        ({"meta": SILICONFLOW}, 100, "0.000005"),
        ({"meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}}}, 0, "0.002"),
    ],
    ids=["jina", "vllm", "siliconflow", "cohere"],
)
async def test_rerank(new_scene: NewScene, path: str, told: dict[str, Any], tokens: int, charge: str) -> None:
    scene = new_scene(rates={"input": "0.05", "search": "0.002"})
    whole = {"results": [{"index": 0, "relevance_score": 0.9}]} | told
    scene.upstream.answer(json=whole)

    answer = scene.post({"model": scene.model, "query": "a lighthouse", "documents": ["a tower", "a boat"]}, path)

    assert answer.json() == whole
    assert scene.upstream.requests[0].path == "/v1/rerank"
    assert_row(scene, charge, tokens=(tokens, 0))
