"""What a call is billed where its answer comes in an unusual form, is cut short, or never ends: by its usage wherever that
can be read, else by what was delivered."""

import gzip
import json
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults.test_upstream_misbehaves import WORDS
from tests.harness.admin import Admin
from tests.harness.answers import Gate, Usage, sse
from tests.harness.books import books, charge, wait_until
from tests.harness.postgres import Database
from tests.harness.proxy import Proxy, running
from tests.harness.scene import RATES, Scene
from tests.harness.scene import scene as set_scene
from tests.standin import STREAM

USED = Usage(input=30, output=5)
ONLY_USAGE = {"id": "c", "object": "chat.completion.chunk", "choices": [], "usage": USED.chat()}
ANSWER = json.dumps({"choices": [{"index": 0, "message": {"content": " red green"}}], "usage": USED.chat()}).encode()
EVENTS = b"".join(map(sse, [*WORDS, ONLY_USAGE, "[DONE]"]))


def assert_billed_by_its_usage(row: dict[str, Any]) -> None:
    assert (row["usage_source"], row["input_tokens"], row["output_tokens"]) == ("provider", USED.input, USED.output)
    assert row["charge"] == charge(RATES, row) == Decimal("0.000125")


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip"])
def test_an_answer_that_comes_compressed_all_the_same_is_billed_by_its_usage(scene: Scene, encoding: str) -> None:
    packed = gzip.compress(ANSWER)
    scene.upstream.answer(body=packed, headers={"content-encoding": encoding})

    with scene.http.stream("POST", "/v1/chat/completions", json=scene.chat()) as answer:
        assert b"".join(answer.iter_raw()) == packed

    assert answer.headers["content-encoding"] == encoding
    assert_billed_by_its_usage(scene.row())
    assert scene.row()["status"] == "success"


@pytest.mark.parametrize("stream_usage", ["inject", "native"])
def test_a_compressed_stream_passes_as_it_is_and_is_billed_by_its_usage(new_scene: Callable[..., Scene], stream_usage: str) -> None:
    scene = new_scene(stream_usage=stream_usage)
    scene.upstream.answer(body=gzip.compress(EVENTS), headers={"content-type": STREAM, "content-encoding": "gzip"})

    assert scene.post(scene.chat(stream=True)).content == EVENTS
    assert_billed_by_its_usage(scene.row())
    assert (scene.row()["status"], scene.row()["is_stream"]) == ("success", True)


@pytest.mark.parametrize("content_type", [STREAM, "application/json"])
def test_what_comes_in_an_encoding_unknown_here_is_estimated_by_its_bytes(scene: Scene, content_type: str) -> None:
    scene.upstream.answer(body=b"\x8b" * 400, headers={"content-type": content_type, "content-encoding": "x-secret"})

    with scene.http.stream("POST", "/v1/chat/completions", json=scene.chat()) as answer:
        assert b"".join(answer.iter_raw()) == b"\x8b" * 400

    row = scene.row()
    assert (row["status"], row["usage_source"], row["output_tokens"]) == ("success", "estimated", 100)
    assert row["charge"] == charge(RATES, row) > 0


def test_a_stream_with_a_length_comes_whole_without_the_event_that_is_taken_out(scene: Scene) -> None:
    scene.upstream.answer(body=EVENTS, headers={"content-type": STREAM})

    answer = scene.post(scene.chat(stream=True))

    assert answer.content == b"".join(map(sse, [*WORDS, "[DONE]"]))
    assert "content-length" not in answer.headers
    assert_billed_by_its_usage(scene.row())


def test_an_event_of_300_kilobytes_passes_and_is_billed_by_the_usage_in_it(scene: Scene) -> None:
    choices = [{"index": 0, "delta": {"content": "b" * 300_000}}]
    events = [{"choices": choices, "usage": USED.chat()}, "[DONE]"]
    scene.upstream.stream(events, split=16_384)

    assert scene.post(scene.chat(stream=True)).content == b"".join(map(sse, events))
    assert_billed_by_its_usage(scene.row())


def cut_short(scene: Scene, begun: bytes, *, framing: str) -> None:
    """The client gets no more than what has come, or a bad gateway, and never an answer that looks whole."""
    head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
    if framing == "length":
        scene.upstream.raw(f"{head}content-length: 5000\r\n\r\n".encode() + begun)
    else:
        scene.upstream.raw(f"{head}transfer-encoding: chunked\r\n\r\n{len(begun):x}\r\n".encode() + begun + b"\r\n")
    with suppress(httpx.RemoteProtocolError):
        assert scene.post(scene.chat()).status_code == 502


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_an_answer_that_is_cut_short_after_its_usage_is_billed_by_it(scene: Scene, framing: str) -> None:
    cut_short(scene, b'{"usage":' + json.dumps(USED.chat()).encode() + b',"choices":[{"message":{"con', framing=framing)

    assert_billed_by_its_usage(scene.row())
    assert (scene.row()["status"], scene.row()["end_reason"]) == ("failed", "upstream_broken")


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("size", [0, 1, 40, len(ANSWER) - 30])
def test_an_answer_that_is_cut_short_before_its_usage_is_not_billed(scene: Scene, framing: str, size: int) -> None:
    cut_short(scene, ANSWER[:size], framing="length" if size == 0 else framing)

    row = scene.row()
    assert (row["status"], row["end_reason"], row["usage_source"], row["bill"], row["charge"]) == (
        "failed", "upstream_broken", "none", 0, 0
    )  # fmt: skip


@pytest.fixture
def stopping(db: Database, tmp_path: Path) -> Iterator[Callable[..., Scene]]:
    """A scene on a proxy of its own, which gives calls a second when it is told to stop."""
    proxy = Proxy(database_url=db.url, directory=tmp_path, SHUTDOWN_WAIT="1")
    proxy.wait_ready()
    try:
        with Admin(proxy.url) as admin:
            yield lambda: set_scene(proxy, admin, db)
        books(db)
    finally:
        if proxy.process.poll() is None:
            proxy.process.kill()
            proxy.process.wait(10)
        running.remove(proxy)


@pytest.mark.parametrize("reported", [False, True], ids=["counted", "reported"])
def test_a_stop_in_mid_stream_bills_what_was_delivered(stopping: Callable[..., Any], reported: bool) -> None:
    with stopping() as scene:
        told = [{**WORDS[2], "usage": USED.chat()}] if reported else WORDS[2:]
        scene.upstream.stream([*WORDS[:2], *told, "[DONE]"], pauses={2 + len(told): Gate()})
        with scene.http.stream("POST", "/v1/chat/completions", json=scene.chat(stream=True)) as answer:
            lines = answer.iter_lines()
            wait_until(lambda: ("blue" if reported else "white") in next(lines), what="the last word before the pause")
            scene.proxy.process.send_signal(signal.SIGTERM)
            assert scene.proxy.process.wait(15) == 0

        row = scene.row()
        assert (row["status"], row["end_reason"]) == ("failed", "interrupted")
        if reported:
            assert_billed_by_its_usage(row)
        else:
            assert row["usage_source"] == "estimated"
            assert (1 <= row["output_tokens"] <= 8, 1 <= row["input_tokens"] <= 8) == (True, True)
            assert row["charge"] == charge(RATES, row) > 0
        assert scene.db.value("SELECT count(*) FROM aigcspace.call_hold") == 0
        assert scene.account()["held"] == 0
