"""A client leaves at each chunk of an answer, politely or not: one row each, which bills what the upstream reported if it came
that far or is read on, else exactly what was delivered."""

import json
import random
import socket
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Literal

import asyncpg
import pytest
from sqlalchemy import make_url

from tests.faults.conftest import Tally
from tests.faults.test_database_away import chunk
from tests.harness import scene as scenes
from tests.harness.admin import Admin
from tests.harness.answers import Gate, Usage
from tests.harness.background import Background
from tests.harness.books import charge, wait_until
from tests.harness.fault_books import Sampler, assert_books
from tests.harness.postgres import Database
from tests.harness.proxy import Proxy
from tests.harness.scale import scaled
from tests.harness.scene import RATES, Scene

How = Literal["fin", "rst"]
HOWS: list[How] = ["fin", "rst"]
HOW = pytest.mark.parametrize("how", HOWS[-scaled(full=2, short=1) :])
WORDS = 6
USED = Usage(input=41, output=WORDS)
REPORT = {"id": "c", "object": "chat.completion.chunk", "choices": [], "usage": USED.chat()}
EVENTS = [*[chunk(" word")] * WORDS, REPORT, "[DONE]"]
ROUNDS = scaled(full=8, short=1)


class Client:
    """One call, over a connection of its own. `received` is the answer as it came, chunk framing and all."""

    def __init__(self, scene: Scene, *, stream: bool) -> None:
        streamed = {"stream": True, "stream_options": {"include_usage": True}}
        body = json.dumps(scene.chat("some words", **(streamed if stream else {})))
        head = ["POST /v1/chat/completions HTTP/1.1", "Host: proxy", "Connection: close", f"Authorization: Bearer {scene.key}"]
        self.request = "\r\n".join([*head, f"Content-Length: {len(body)}", "", body]).encode()
        self.received = b""
        self._connection = socket.create_connection(("127.0.0.1", scene.proxy.port), 10)

    def send(self, part: int | None = None) -> None:
        self._connection.sendall(self.request[:part])

    def read_until(self, enough: Callable[[bytes], bool]) -> None:
        while not enough(self.received):
            piece = self._connection.recv(65536)
            assert piece, f"the answer ended: {self.received!r}"
            self.received += piece

    def read_rest(self, at_most: int) -> None:
        while len(self.received) < at_most and (piece := self._connection.recv(min(64, at_most - len(self.received)))):
            self.received += piece

    def leave(self, how: How) -> None:
        """`rst` is a process that died, `fin` one that closed."""
        if how == "rst":
            self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._connection.close()


def events(number: int) -> Callable[[bytes], bool]:
    return lambda received: received.partition(b"\r\n\r\n")[2].count(b"\n\n") >= number


def has_head(received: bytes) -> bool:
    return b"\r\n\r\n" in received


@pytest.fixture(scope="module", params=["cancel", "drain"])
def client_gone(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def scene(proxy: Proxy, admin: Admin, db: Database, client_gone: str) -> Iterator[Scene]:
    with scenes.scene(proxy, admin, db, client_gone=client_gone) as made:
        yield made
    assert_books(db, at_rest_within=20)


def newest(scene: Scene, number: int) -> dict[str, Any]:
    """The row of the call that is this user's `number`th: the only one more than before it."""
    wait_until(lambda: len(scene.rows()) >= number, what=f"row {number}")
    rows = scene.rows()
    assert len(rows) == number
    assert rows[-1]["status"] == "success"
    assert rows[-1]["charge"] == charge(RATES, rows[-1])
    return rows[-1]


def assert_reported(row: dict[str, Any]) -> None:
    assert (row["usage_source"], row["input_tokens"], row["output_tokens"]) == ("provider", USED.input, USED.output)


def assert_delivered(row: dict[str, Any], words: int) -> None:
    assert (row["usage_source"], row["output_tokens"], row["end_reason"]) == ("estimated", words, "client_gone")
    assert 1 < row["input_tokens"] < 20, "the request is counted here too"


@HOW
def test_a_client_that_leaves_within_its_request_has_made_no_call(how: How, scene: Scene) -> None:
    client = Client(scene, stream=True)
    client.send(len(client.request) - 20)
    client.leave(how)
    Client(scene, stream=False).leave(how)

    scene.post(scene.chat()).raise_for_status()
    assert len(scene.upstream.requests) == len(scene.rows()) == 1


PLACE_OF = {"the request": 0, "the headers": 0, "all but the last byte": WORDS + 1}
"""Of the piece before which the upstream waits."""


@pytest.mark.timeout(300)
@HOW
@pytest.mark.parametrize("after", ["the request", "the headers", *range(1, WORDS + 2), "all but the last byte", "all"])
def test_the_client_of_a_stream_leaves_after(
    after: int | str, how: How, scene: Scene, client_gone: str, tally: Callable[..., Tally], background: Background
) -> None:
    """A number: of events."""
    left = tally("client leaves a stream", "times", ROUNDS)
    while not left.is_complete:
        client, gate, number = Client(scene, stream=True), Gate(), left.reached + 1
        scripted = scene.upstream.stream(EVENTS, usage=USED, pauses={} if after == "all" else {PLACE_OF.get(str(after), after): gate})
        scripted.before = gate if after == "the request" else None
        client.send()
        wait_until(lambda number=number: len(scene.upstream.requests) == number, what="the call is upstream")
        leave_stream(client, after, how, scene, gate, background)
        if client_gone == "drain":
            gate.open()
        elif after not in ("all but the last byte", "all"):
            assert scene.upstream.requests[-1].gone.wait(30), "it is cancelled upstream"
        left.add()

        row = newest(scene, number)
        if after in ("all but the last byte", "all"):
            assert_reported(row)
        elif client_gone == "drain":
            assert_reported(row)
            assert row["end_reason"] in ENDS
        elif after == "the request":
            assert (row["usage_source"], row["bill"], row["end_reason"]) == ("none", 0, "client_gone")
        elif after == WORDS + 1:
            assert_reported(row)
            assert row["end_reason"] == "client_gone"
        else:
            assert_delivered(row, 0 if after == "the headers" else int(after))


ENDS = ("client_gone", "completed")
"""Where the answer ends at once: it may have done so before it is noticed that nobody is there any more."""


def leave_stream(client: Client, after: int | str, how: How, scene: Scene, gate: Gate, background: Background) -> None:
    if after == "all but the last byte":
        client.read_until(events(WORDS + 1))
        with locked(scene, background):
            gate.open()
            client.read_until(lambda received: b"data: [DONE]" in received)
            time.sleep(0.05)
            assert not events(WORDS + 2)(client.received)
            client.leave(how)
        return
    if after == "the headers":
        client.read_until(has_head)
    elif after != "the request":
        client.read_until(events(WORDS + 2 if after == "all" else int(after)))
    client.leave(how)


@contextmanager
def locked(scene: Scene, background: Background) -> Iterator[None]:
    """The account is somebody else's for a while, so that nothing of it can be settled."""
    url = make_url(scene.db.url).set(drivername="postgresql").render_as_string(hide_password=False)
    other = background.run(asyncpg.connect(url))
    try:
        background.run(other.execute("BEGIN"))
        background.run(other.fetch("SELECT FROM aigcspace.account WHERE user_id = $1 FOR UPDATE", scene.user))
        yield
    finally:
        background.run(other.close())


UNARY = json.dumps({"choices": [{"index": 0, "message": {"content": " word" * WORDS}}], "usage": USED.chat()}).encode()


@pytest.mark.timeout(300)
@HOW
@pytest.mark.parametrize("after", ["the request", "the headers", "half the body", "all but the last byte", "all"])
def test_the_client_of_an_answer_that_is_no_stream_leaves_after(
    after: str, how: How, scene: Scene, tally: Callable[..., Tally], background: Background
) -> None:
    """It is read to its end, and billed."""
    left = tally("client leaves a unary call", "times", ROUNDS)
    while not left.is_complete:
        client, gate = Client(scene, stream=False), Gate()
        scripted = scene.upstream.answer(body=UNARY, headers={"content-length": str(len(UNARY))}, usage=USED)
        half = len(UNARY) // 2
        if after == "the request":
            scripted.before = gate
        elif after != "all":
            cut = {"the headers": 2, "half the body": half}.get(after, len(UNARY) - 1)  # headers go with the first bytes
            scripted.pieces, scripted.pauses = [UNARY[:cut], UNARY[cut:]], {1: gate}
        number, asked = left.reached + 1, len(scene.upstream.requests)
        client.send()
        wait_until(lambda asked=asked: len(scene.upstream.requests) > asked, what="the call is upstream")
        if after == "all but the last byte":
            with locked(scene, background):
                gate.open()
                client.read_until(lambda received: len(received.partition(b"\r\n\r\n")[2]) >= len(UNARY) - 2)
                client.leave(how)
        else:
            if after in ("the headers", "half the body"):
                client.read_until(has_head)
            elif after == "all":
                client.read_until(lambda received: received.endswith(UNARY))
            client.leave(how)
        gate.open()
        left.add()

        row = newest(scene, number)
        assert_reported(row)
        assert row["end_reason"] in ENDS


@pytest.mark.timeout(600)
def test_clients_leave_at_random(scene: Scene, client_gone: str, scale: Callable[..., int], tally: Callable[..., Tally]) -> None:
    left = tally("client leaves at random, under load", "times", scale(full=1000, short=60))
    dice = random.Random(7)

    def call(bytes_read: int) -> None:
        scene.upstream.stream(EVENTS, usage=USED, gap=dice.choice([0, 0.004, 0.02]))
        client = Client(scene, stream=True)
        client.send()
        client.read_rest(bytes_read)
        client.leave(dice.choice(HOWS))

    with Sampler(scene.db.url), ThreadPoolExecutor(8) as clients:
        for _ in clients.map(call, [dice.randrange(0, 2600) for _ in range(left.asked)]):
            left.add()

    assert_books(scene.db, at_rest_within=20)
    rows = scene.rows()
    assert len(rows) >= len(scene.upstream.requests) >= left.asked * 0.5
    assert {row["status"] for row in rows} == {"success"}
    assert {row["end_reason"] for row in rows} == {"client_gone", "completed"}
    assert all(row["usage_source"] == "provider" for row in rows if row["end_reason"] == "completed" or client_gone == "drain")
    assert all(row["charge"] == charge(RATES, row) for row in rows)
    assert {(row["input_tokens"], row["output_tokens"]) for row in rows if row["usage_source"] == "provider"} == {(USED.input, USED.output)}
    assert all(row["output_tokens"] <= WORDS for row in rows)
