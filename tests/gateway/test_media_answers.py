"""What answers of media tell: wherever it stands in them, however large they are, and whatever else they hold."""

import base64
import json
import random
from typing import Any

import pytest

from app.billing.usage import Usage
from app.gateway.metering.meter import LARGEST_COPY, BodyMeter, StreamMeter
from app.gateway.protocols.images import ImageGenerations
from app.gateway.protocols.openai_audio import read_usage, whole_seconds
from app.gateway.protocols.rerank import Rerank
from app.gateway.protocols.speech import Speech
from app.gateway.protocols.transcriptions import Transcriptions
from tests.gateway.sse import every, passed
from tests.harness.answers import sse

IMAGES = ImageGenerations()
TOLD = {"input_tokens": 63, "output_tokens": 1260, "total_tokens": 1323, "input_tokens_details": {"text_tokens": 13, "image_tokens": 50}}
TOKENS = Usage(input_tokens=63, output_tokens=1260, image_input_tokens=50, image_output_tokens=1260, units={"image": 3})
PICTURE = base64.b64encode(random.Random(3).randbytes(5_000_000)).decode()


def told(answer: dict[str, Any] | bytes) -> Usage | None:
    return IMAGES.usage_of(answer if isinstance(answer, bytes) else json.dumps(answer).encode())


def metered(body: bytes) -> BodyMeter:
    tap = BodyMeter(length=None, encoding=None)
    for piece in every(body, 65_536):
        tap.feed(piece)
        assert len(tap._copy) <= LARGEST_COPY + 65_536
    return tap


@pytest.mark.parametrize("escaped", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_three_large_images_are_counted_and_their_usage_found_on_either_side(first: bool, escaped: bool) -> None:
    data = {"data": [{"b64_json": PICTURE, "revised_prompt": 'a "lighthouse", at: [night]'}] * 3}
    body = json.dumps({"usage": TOLD} | data if first else data | {"usage": TOLD}).encode()
    body = body.replace(b"/", b"\\/") if escaped else body
    assert len(body) > 20_000_000

    assert IMAGES.usage_of(metered(body).answer()) == TOKENS
    assert told(json.dumps(data).encode().replace(PICTURE.encode(), b"x")) == Usage(units={"image": 3})


def test_what_is_left_of_a_large_answer_is_json_as_before() -> None:
    whole = {"texts": ["a" * 5000, 'b"\\' * 3000, " " * 9000], "numbers": [1.5] * 20_000, "data": [{"b64_json": PICTURE}] * 2}
    left = json.loads(metered(json.dumps(whole).encode()).answer())

    assert left["texts"][1:] == whole["texts"][1:]
    assert left["numbers"] == whole["numbers"]
    assert len(left["data"]) == 2


@pytest.mark.parametrize(
    ("answer", "usage"),
    [
        ({"data": [{"url": "x"}] * 2}, Usage(units={"image": 2})),
        ({"data": [{"url": "x"}], "quality": "high", "size": "1024x1024"}, Usage(units={"image:high:1024x1024": 1})),
        ({"data": [], "usage": None}, Usage(units={"image": 0})),
        ({"data": [{}], "usage": {"input_tokens": -1, "output_tokens": 5}}, Usage(units={"image": 1})),
        ({"data": [{}], "usage": {"input_tokens": 1.5, "output_tokens": 5}}, Usage(units={"image": 1})),
        ({"data": None}, None),
        ({"error": {"message": "no"}}, None),
        (b"<html>", None),
        (b"", None),
        (b"[]", None),
    ],
)
def test_images_are_what_the_data_holds(answer: dict[str, Any] | bytes, usage: Usage | None) -> None:
    assert told(answer) == usage


def test_volcengine_counts_images_and_tokens_without_input() -> None:
    usage = told({"data": [{"url": "x"}] * 3, "usage": {"generated_images": 2, "output_tokens": 16_280, "total_tokens": 16_280}})

    assert usage == Usage(output_tokens=16_280, image_output_tokens=16_280, units={"image": 2})


def test_the_writing_of_an_svg_is_another_models_work() -> None:
    svg = {"model": "gpt-5", "input_tokens": 10, "output_tokens": 20, "reasoning_tokens": 5, "total_tokens": 30}
    usage = told({"data": [{}] * 3, "usage": TOLD, "svg_usage": svg})

    assert usage is not None
    assert usage.others == {"gpt-5": Usage(input_tokens=10, output_tokens=20, reasoning_tokens=5)}


def test_text_among_the_output_is_no_image() -> None:
    usage = told({"data": [{}], "usage": TOLD | {"output_tokens_details": {"image_tokens": 1000, "text_tokens": 260}}})

    assert usage is not None
    assert usage.meters()["output"] == 260


def completed(picture: str, usage: dict[str, Any] | None = None) -> bytes:
    head = {"type": "image_generation.completed", "b64_json": picture, "quality": "high", "size": "1024x1024"}
    return b"event: image_generation.completed\n" + sse(head | ({"usage": usage} if usage else {}))


@pytest.mark.parametrize("picture", ["aGk=", PICTURE], ids=["small", "large"])
@pytest.mark.parametrize("size", [1000, 65_536])
def test_a_stream_of_images_is_metered_and_its_end_waits(picture: str, size: int) -> None:
    partial = sse({"type": "image_generation.partial_image", "b64_json": picture, "partial_image_index": 0})
    whole = partial + completed(picture, TOLD)
    tap = StreamMeter(IMAGES, strips=False)

    before = b"".join(tap.feed(piece) for piece in every(whole, size))
    tap.finish()

    assert before == whole[:-2]
    assert tap.release() == b"\n\n"
    assert tap.terminal
    assert tap.usage == Usage(
        input_tokens=63, output_tokens=1260, image_input_tokens=50, image_output_tokens=1260, units={"image:high:1024x1024": 1}
    )


def test_images_of_one_stream_add_up() -> None:
    tap = StreamMeter(IMAGES, strips=False)

    passed(tap, [completed("aGk=", TOLD), completed(PICTURE, TOLD), sse("[DONE]")])

    assert tap.usage is not None
    assert (tap.usage.output_tokens, tap.usage.units) == (2520, {"image:high:1024x1024": 2})


@pytest.mark.parametrize(
    ("reported", "usage"),
    [
        ({"type": "duration", "seconds": 9}, Usage(units={"second": 9})),
        ({"type": "duration", "seconds": 8.47}, Usage(units={"second": 9})),
        ({"type": "duration", "seconds": -1}, None),
        ({"type": "duration", "seconds": True}, None),
        (
            {"prompt_audio_seconds": 203, "prompt_tokens": 4, "completion_tokens": 635, "total_tokens": 3264},
            Usage(input_tokens=2629, output_tokens=635, audio_input_tokens=2625, units={"second": 203}),
        ),
        ({"prompt_tokens": 4, "completion_tokens": 6, "total_tokens": 10}, Usage(input_tokens=4, output_tokens=6)),
        ({"input_tokens": "4", "output_tokens": 6}, None),
        (None, None),
    ],
)
def test_usage_of_sound(reported: object, usage: Usage | None) -> None:
    assert read_usage(reported) == usage


@pytest.mark.parametrize(
    ("told", "seconds"), [("8.47", 9), (0, 0), (1e400, None), (float("nan"), None), ("long", None), (None, None), ([], None)]
)
def test_seconds_are_whole(told: object, seconds: int | None) -> None:
    assert whole_seconds(told) == seconds


@pytest.mark.parametrize(
    ("answer", "texts"),
    [
        (b'{"text":"hi"}', ["hi"]),
        (b'{"text":""}', [""]),
        (b"1\n00:00 --> 00:01\nhi\n", ["1\n00:00 --> 00:01\nhi\n"]),
        (b"\n", ["\n"]),
        (b"", []),
        (b'{"error":"no"}', []),
    ],
)
def test_a_transcription_is_an_answer_where_it_has_a_text(answer: bytes, texts: list[str]) -> None:
    assert Transcriptions().answer_texts(answer) == texts


def test_sound_is_an_answer_and_json_is_none() -> None:
    assert Speech().answer_texts(b"ID3 sound") == [""]
    assert Speech().answer_texts(b"{\xff sound") == [""]
    assert Speech().answer_texts(b' {"error": 1}') == []


def test_an_ambiguous_rerank_reads_the_query_with_each_document() -> None:
    request = Rerank().read(json.dumps({"model": "m", "query": "q" * 100, "documents": ["d"] * 250}).encode())

    assert request.input_bound > 250 * 100
    assert request.measured.units == {"search": 3}
    assert not request.open_ended
