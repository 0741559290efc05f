"""An upstream that breaks, in any of the ways the stand-in knows, costs the caller no more than what was delivered, and
leaves one row."""

import httpx
import pytest

from tests.harness.books import charge
from tests.harness.scene import RATES, Scene

HTML = b"<html><body><h1>502 Bad Gateway</h1></body></html>"


def chunk(text: str) -> dict[str, object]:
    choices = [{"index": 0, "delta": {"content": text}, "finish_reason": None}]
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices}


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
