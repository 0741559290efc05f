"""A client that leaves, or that reads nothing any more: what becomes of the call upstream, and what it bills."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from typing import Any

import pytest

from tests.faults.test_upstream_misbehaves import WORDS, chunk
from tests.harness.admin import Admin
from tests.harness.answers import Gate, Usage
from tests.harness.books import charge, wait_until
from tests.harness.proxy import Proxy
from tests.harness.raw_client import ask_and_leave, has_noticed, raw_call
from tests.harness.scene import RATES, Scene

USED = Usage(input=30, output=5)
REPORTED = {"id": "c", "object": "chat.completion.chunk", "choices": [], "usage": USED.chat()}


@contextmanager
def stream_of(scene: Scene, *, until: str, url: str = "") -> Iterator[None]:
    """The client has got the word, and leaves at the end of the block; what comes after it, the proxy knows of that."""
    with scene.http.stream("POST", f"{url}/v1/chat/completions", json=scene.chat("some colours", stream=True)) as answer:
        lines = answer.iter_lines()
        wait_until(lambda: until in next(lines), what=until)
        yield
    wait_until(lambda: has_noticed(scene.proxy), what="the proxy has noticed it")


def leaves_before_an_answer(scene: Scene, **fields: Any) -> None:
    ask_and_leave(scene, scene.chat("some colours", **fields))


def assert_ended(row: dict[str, Any], usage_source: str) -> None:
    assert (row["status"], row["end_reason"], row["usage_source"]) == ("success", "client_gone", usage_source)
    assert row["error_message"]


def assert_billed_by_its_usage(row: dict[str, Any]) -> None:
    assert_ended(row, "provider")
    assert (row["input_tokens"], row["output_tokens"]) == (USED.input, USED.output)
    assert row["charge"] == charge(RATES, row) == Decimal("0.000125")


def assert_estimated(row: dict[str, Any], *, output: int) -> None:
    assert_ended(row, "estimated")
    assert row["output_tokens"] == output
    assert row["charge"] == charge(RATES, row) > 0


def test_a_stream_given_up_before_it_began_is_cancelled_upstream_and_free(scene: Scene) -> None:
    scene.upstream.stream([*WORDS, REPORTED, "[DONE]"])
    scene.upstream.hold()

    leaves_before_an_answer(scene, stream=True)

    row = scene.row()
    assert scene.upstream.requests[0].gone.wait(30)
    assert_ended(row, "none")
    assert (row["bill"], row["charge"], row["http_status"]) == (0, 0, None)


def test_a_client_that_leaves_because_it_was_told_of_an_error_has_not_given_up(scene: Scene) -> None:
    told = {"error": {"message": "overloaded", "code": "server_error"}}
    scene.upstream.stream([*WORDS[:2], told, "[DONE]"], pauses={3: Gate()})
    with scene.http.stream("POST", "/v1/chat/completions", json=scene.chat(stream=True)) as answer:
        assert any("overloaded" in line for line in answer.iter_lines())

    row = scene.row()
    assert (row["status"], row["end_reason"], row["error_message"]) == ("failed", "upstream_error", "overloaded")
    assert (row["usage_source"], row["output_tokens"]) == ("estimated", 2)


@pytest.mark.parametrize("client_gone", ["cancel", "drain"])
def test_an_answer_that_is_no_stream_is_read_to_its_end_and_billed(new_scene: Callable[..., Scene], client_gone: str) -> None:
    scene = new_scene(client_gone=client_gone)
    scene.upstream.answer(json={"choices": [{"index": 0, "message": {"content": " red"}}], "usage": USED.chat()})
    gate = scene.upstream.hold()

    leaves_before_an_answer(scene)
    gate.open()

    assert_billed_by_its_usage(scene.row())
    assert scene.row()["http_status"] == 200


def test_a_client_that_leaves_while_a_large_answer_passes_is_billed_all_of_it(scene: Scene) -> None:
    message = {"content": " red" * 50_000}
    whole = json.dumps({"choices": [{"index": 0, "message": message}], "usage": USED.chat()}).encode()
    gate = Gate()
    scripted = scene.upstream.answer(body=whole, headers={"content-length": str(len(whole))})
    scripted.pieces, scripted.pauses = [whole[:1000], whole[1000:]], {1: gate}

    with scene.http.stream("POST", "/v1/chat/completions", json=scene.chat()) as answer:
        next(answer.iter_raw())
    gate.open()

    assert_billed_by_its_usage(scene.row())


@pytest.mark.parametrize("begun", [True, False], ids=["in mid-stream", "before it began"])
def test_where_the_upstream_bills_regardless_a_stream_is_read_to_its_end(new_scene: Callable[..., Scene], begun: bool) -> None:
    scene = new_scene(client_gone="drain")
    gate = Gate()
    scripted = scene.upstream.stream([*WORDS, REPORTED, "[DONE]"], pauses={2: gate})
    if begun:
        with stream_of(scene, until="green"):
            pass
    else:
        scripted.before = gate
        leaves_before_an_answer(scene, stream=True)
    assert scene.rows() == []
    gate.open()

    assert_billed_by_its_usage(scene.row())
    assert scene.upstream.requests[0].answered.wait(30)


def test_a_stream_that_is_read_on_and_breaks_is_billed_as_it_came(new_scene: Callable[..., Scene]) -> None:
    scene = new_scene(client_gone="drain")
    gate = Gate()
    scripted = scene.upstream.cut(WORDS, after=4)
    scripted.pauses = {2: gate}
    with stream_of(scene, until="green"):
        pass
    gate.open()

    assert_estimated(scene.row(), output=4)
    assert "cut the connection" in scene.row()["error_message"]


@pytest.fixture(scope="module")
def impatient(proxies: Callable[..., Proxy]) -> Proxy:
    return proxies(DRAIN_WAIT="0.7", DRAIN_MOST="1", CLIENT_IDLE_TIMEOUT="0.7")


def test_what_came_until_the_time_is_over_is_counted(new_scene: Callable[..., Scene], impatient: Proxy) -> None:
    scene = new_scene(client_gone="drain")
    scene.known_to(impatient)
    gate = Gate()
    scene.upstream.stream([*WORDS, REPORTED, "[DONE]"], pauses={2: gate, 4: Gate()})
    with stream_of(scene, until="green", url=impatient.url):
        pass
    gate.open()

    assert_estimated(scene.row(), output=4)
    assert scene.upstream.requests[0].gone.wait(30)


def test_a_stream_that_has_not_begun_when_the_time_is_over_is_free(new_scene: Callable[..., Scene], impatient: Proxy) -> None:
    scene = new_scene(client_gone="drain")
    scene.known_to(impatient)
    scene.upstream.silence()
    ask_and_leave(scene, scene.chat(stream=True), proxy=impatient)

    assert_ended(scene.row(), "none")
    assert scene.upstream.requests[0].gone.wait(30)


def test_no_more_streams_are_read_on_than_may_be(new_scene: Callable[..., Scene], impatient: Proxy) -> None:
    scene = new_scene(client_gone="drain")
    scene.known_to(impatient)
    for _ in range(2):
        scene.upstream.stream([*WORDS, REPORTED, "[DONE]"], pauses={2: Gate()})
    with stream_of(scene, until="green", url=impatient.url), stream_of(scene, until="green", url=impatient.url):
        pass

    cancelled = wait_until(scene.rows, what="the one beyond")
    assert len(cancelled) == 1, "the other one is still read"
    assert_estimated(cancelled[0], output=2)
    wait_until(lambda: len(scene.rows()) == 2, what="the time of the other one is over")
    assert [request.gone.wait(30) for request in scene.upstream.requests] == [True, True]


def test_the_place_of_a_stream_that_has_ended_is_free_again(new_scene: Callable[..., Scene], impatient: Proxy) -> None:
    scene = new_scene(client_gone="drain")
    scene.known_to(impatient)
    for calls in (1, 2, 3):
        gate = Gate()
        scene.upstream.stream([*WORDS, REPORTED, "[DONE]"], pauses={2: gate})
        with stream_of(scene, until="green", url=impatient.url):
            pass
        gate.open()
        wait_until(lambda calls=calls: len(scene.rows()) == calls, what="its row")

    assert [row["usage_source"] for row in scene.rows()] == ["provider"] * 3


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_reads_nothing_any_more_has_left(scene: Scene, impatient: Proxy, stream: bool) -> None:
    scene.known_to(impatient)
    if stream:
        scene.upstream.stream([chunk(" red" * 20_000)] * 400)
    else:
        scene.upstream.answer(json={"choices": [{"index": 0, "message": {"content": " red" * 8_000_000}}], "usage": USED.chat()})
    with socket.create_connection(("127.0.0.1", impatient.port), 10) as connection:
        connection.sendall(raw_call(scene, scene.chat(stream=stream)))

        if stream:
            assert_ended(scene.row(), "estimated")
            assert scene.upstream.requests[0].gone.wait(30)
        else:
            assert_billed_by_its_usage(scene.row())
        assert scene.account()["held"] == 0
        got = b""
        with suppress(ConnectionResetError):
            while piece := connection.recv(1 << 20):
                got += piece
    assert 0 < len(got) < 30_000_000, "what was on its way, and then the end"


def test_a_client_that_reads_slowly_but_reads_is_not_cut_off(scene: Scene, impatient: Proxy) -> None:
    scene.known_to(impatient)
    scene.upstream.stream([*WORDS, REPORTED, "[DONE]"], gap=0.4)

    answer = scene.http.post(f"{impatient.url}/v1/chat/completions", json=scene.chat(stream=True))

    assert answer.text.endswith("data: [DONE]\n\n")
    assert scene.row()["end_reason"] == "completed"


def test_an_upstream_shows_what_it_does_when_clients_leave(scene: Scene, admin: Admin) -> None:
    path = f"/admin/upstreams/{scene.upstream_id}"

    assert admin.ask("GET", path)["client_gone"] == "cancel"
    assert admin.ask("PATCH", path, json={"client_gone": "drain"})["client_gone"] == "drain"
    assert admin.ask("GET", path)["client_gone"] == "drain"
    assert admin.http.patch(path, json={"client_gone": "stay"}).status_code == 422
