"""An upstream that breaks, in any of the ways the stand-in knows, costs the caller no more than what was delivered, and
leaves one row."""

from collections.abc import Callable, Iterator
from typing import Any, Literal

import httpx
import pytest

from tests.faults.conftest import Tally
from tests.harness.answers import sse
from tests.harness.books import charge
from tests.harness.proxy import Proxy
from tests.harness.scene import RATES, Scene

HTML = b"<html><body><h1>502 Bad Gateway</h1></body></html>"


def chunk(text: str) -> dict[str, object]:
    choices = [{"index": 0, "delta": {"content": text}, "finish_reason": None}]
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices}


def assert_counted(row: dict[str, Any], *, output: int, end_reason: str = "upstream_broken") -> None:
    assert (row["status"], row["end_reason"], row["http_status"]) == ("failed", end_reason, 200)
    assert (row["usage_source"], row["output_tokens"]) == ("estimated", output)
    assert row["charge"] == charge(RATES, row) > 0


@pytest.fixture(autouse=True)
def one_way_to_break(tally: Callable[..., Tally]) -> Iterator[None]:
    ways = tally("upstream breaks", "ways", 1)
    yield
    ways.add()


WORDS = [chunk(f" {word}") for word in ("red", "green", "blue", "white")]


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_a_stream_that_breaks_between_events_ends_with_an_error_event(scene: Scene, how: str) -> None:
    scene.upstream.cut(WORDS, after=3, how=how)

    answer = scene.post(scene.chat("some colours", stream=True))

    *delivered, last = answer.text.strip().split("\n\n")
    assert len(delivered) == 3
    assert '"error"' in last
    row = scene.row()
    assert (row["status"], row["usage_source"], row["output_tokens"]) == ("failed", "estimated", 3)
    assert row["charge"] == charge(RATES, row) > 0


def test_a_stream_that_breaks_inside_an_event_never_looks_whole_to_the_client(scene: Scene) -> None:
    scene.upstream.cut(WORDS, after=2, bytes_of_next=30)

    try:
        ended_with_an_error = '"error"' in scene.post(scene.chat("some colours", stream=True)).text
    except httpx.RemoteProtocolError:
        ended_with_an_error = True

    assert ended_with_an_error
    row = scene.row()
    assert (row["status"], row["usage_source"], row["output_tokens"]) == ("failed", "estimated", 2)


def test_a_stream_that_stalls_ends_with_an_error_event(proxies: Callable[..., Proxy], scene: Scene) -> None:
    impatient = proxies(UPSTREAM_IDLE_TIMEOUT="0.5")
    scene.known_to(impatient)
    scene.upstream.cut(WORDS, after=3, how="stall")

    answer = scene.http.post(f"{impatient.url}/v1/chat/completions", json=scene.chat("some colours", stream=True))

    assert '"upstream_broken"' in answer.text.strip().split("\n\n")[-1]
    assert_counted(scene.row(), output=3)
    assert "stalled" in scene.row()["error_message"]
    assert scene.upstream.requests[0].gone.wait(30)


def test_a_stream_that_never_ends_is_ended(proxies: Callable[..., Proxy], scene: Scene) -> None:
    impatient = proxies(UPSTREAM_TOTAL_TIMEOUT="1")
    scene.known_to(impatient)
    scene.upstream.stream([chunk(" red")] * 100, gap=0.3)

    answer = scene.http.post(f"{impatient.url}/v1/chat/completions", json=scene.chat("some colours", stream=True))

    delivered = answer.text.count(" red")
    assert '"upstream_broken"' in answer.text.strip().split("\n\n")[-1]
    assert_counted(scene.row(), output=delivered)
    assert 1 <= delivered <= 5
    assert "too long" in scene.row()["error_message"]


def test_a_stream_that_becomes_no_http_ends_with_an_error_event(scene: Scene) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    events = b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in map(sse, WORDS[:3]))
    scripted = scene.upstream.raw(head + events)
    scripted.pieces.append(b"\x00\xffSSH-2.0\r\n" * 10)
    scripted.gap = 0.1

    answer = scene.post(scene.chat("some colours", stream=True))

    assert '"upstream_broken"' in answer.text.strip().split("\n\n")[-1]
    assert_counted(scene.row(), output=3)


@pytest.mark.parametrize("how", ["fin", "rst", "stall"])
def test_an_error_that_breaks_off_is_a_bad_gateway(
    proxies: Callable[..., Proxy], scene: Scene, how: Literal["fin", "rst", "stall"]
) -> None:
    impatient = proxies(UPSTREAM_IDLE_TIMEOUT="0.5")
    scene.known_to(impatient)
    scene.upstream.raw(b'HTTP/1.1 500 Oh\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{"error":', how=how)

    answer = scene.http.post(f"{impatient.url}/v1/chat/completions", json=scene.chat())

    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_broken")
    row = scene.row()
    assert (row["status"], row["end_reason"], row["http_status"], row["bill"]) == ("failed", "upstream_error", 500, 0)


def test_an_error_in_mid_stream_passes_and_bills_what_was_delivered(scene: Scene) -> None:
    error = {"error": {"message": "The engine is overloaded", "type": "server_error", "code": 503}}
    scene.upstream.stream([*WORDS[:2], error])

    answer = scene.post(scene.chat("some colours", stream=True))

    assert answer.content == b"".join(map(sse, [*WORDS[:2], error]))
    assert_counted(scene.row(), output=2, end_reason="upstream_error")
    assert scene.row()["error_message"] == "The engine is overloaded"


@pytest.mark.parametrize("framing", ["chunked", "close"])
def test_a_stream_that_ends_without_its_terminal_event_is_flagged(scene: Scene, framing: Literal["chunked", "close"]) -> None:
    scene.upstream.stream(WORDS).framing = framing

    answer = scene.post(scene.chat("some colours", stream=True))

    assert answer.content == b"".join(map(sse, WORDS))
    row = scene.row()
    assert (row["status"], row["end_reason"], row["usage_source"], row["output_tokens"]) == ("success", "completed", "estimated", 4)
    assert row["flags"] == ["unterminated"]


def test_garbage_between_events_passes_and_what_can_be_read_is_counted(scene: Scene) -> None:
    garbage = b"\x00\xff\xfe\n\ndata: {\n\ndata: \xff\n\n"
    scene.upstream.stream([*WORDS[:2], garbage, *WORDS[2:], "[DONE]"])

    answer = scene.post(scene.chat("some colours", stream=True))

    assert answer.content == b"".join([*map(sse, WORDS[:2]), garbage, *map(sse, [*WORDS[2:], "[DONE]"])])
    assert (scene.row()["status"], scene.row()["output_tokens"]) == ("success", 4)


def test_a_success_without_usage_is_counted_by_us(scene: Scene) -> None:
    message = {"role": "assistant", "content": " red green blue"}
    scene.upstream.answer(json={"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})

    assert scene.post(scene.chat("some colours")).status_code == 200
    row = scene.row()
    assert (row["status"], row["usage_source"], row["output_tokens"]) == ("success", "estimated", 3)
    assert row["charge"] == charge(RATES, row) > 0


def test_what_is_no_http_is_a_bad_gateway(scene: Scene) -> None:
    for _ in range(4):
        scene.upstream.raw(b"SSH-2.0-OpenSSH_9.2\r\n")

    answer = scene.post(scene.chat())

    assert answer.status_code == 502
    assert answer.json()["error"]["code"].startswith("upstream_")
    assert (scene.row()["status"], scene.row()["bill"]) == ("failed", 0)


@pytest.mark.parametrize("status", [502, 503])
def test_an_html_error_page_comes_back_as_it_is(scene: Scene, status: int) -> None:
    scene.upstream.answer(body=HTML, status=status, headers={"content-type": "text/html"}, always=True)

    answer = scene.post(scene.chat())

    assert (answer.status_code, answer.content) == (status, HTML)
    assert (scene.row()["status"], scene.row()["bill"], scene.row()["http_status"]) == ("failed", 0, status)


def test_usage_beyond_reason_never_costs_more_than_was_held(scene: Scene) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 1_000_000, "total_tokens": 1_000_010}
    scene.upstream.answer(json={"choices": [], "usage": usage})

    assert scene.post(scene.chat(max_tokens=100)).status_code == 200
    row = scene.row()
    assert (row["usage_source"], row["output_tokens"], row["flags"]) == ("provider", 1_000_000, ["cut_at_hold"])
    assert 0 < row["charge"] <= (len("hello there") + 1000) * 10 / 1_000_000


def test_usage_that_can_not_be_true_is_counted_instead(scene: Scene) -> None:
    usage = {"prompt_tokens": 10**12, "completion_tokens": -5, "total_tokens": "many"}
    scene.upstream.answer(json={"choices": [{"message": {"content": "You said hello there"}}], "usage": usage})

    assert scene.post(scene.chat(max_tokens=100)).status_code == 200
    row = scene.row()
    assert row["usage_source"] == "estimated"
    assert row["output_tokens"] == 4
