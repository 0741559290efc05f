"""What is no HTTP, or could be read in two ways, is refused in the envelope of its path, and ends the connection: nothing
of it is a call."""

import json
import time

import pytest

from tests.fuzz.conftest import MOST
from tests.fuzz.wire import Wire, chunked, head
from tests.harness.books import wait_until
from tests.harness.scene import Scene

BODY = b"5\r\nhello\r\n0\r\n\r\n"
SMUGGLED = b"GET /healthz HTTP/1.1\r\nHost: proxy\r\n\r\n"
FRAMINGS = {
    "a length beside chunks": (["Content-Length: 4", "Transfer-Encoding: chunked"], BODY),
    "chunks beside a length": (["Transfer-Encoding: chunked", "Content-Length: 4"], BODY),
    "two lengths": (["Content-Length: 5", "Content-Length: 6"], b"hello"),
    "a list of lengths": (["Content-Length: 5, 5"], b"hello"),
    "a signed length": (["Content-Length: +5"], b"hello"),
    "a negative length": (["Content-Length: -5"], b"hello"),
    "a length beyond numbers": (["Content-Length: 99999999999999999999999"], b"hello"),
    "a name with a space": (["Content Length: 5"], b"hello"),
    "a space before the colon": (["Content-Length : 5"], b"hello"),
    "a folded header": (["X-A: b\r\n c"], b""),
    "a bare carriage return": (["X-A: b\rX-B: c"], b""),
    "a bare line feed": (["X-A: b\nX-B: c"], b""),
    "a NUL": (["X-A: b\0c"], b""),
    "no name": ([": b"], b""),
    "no colon": (["X-A"], b""),
    "two codings": (["Transfer-Encoding: gzip, chunked"], BODY),
    "chunks not last": (["Transfer-Encoding: chunked, gzip"], BODY),
    "chunks twice": (["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], BODY),
    "chunks in disguise": (["Transfer-Encoding: xchunked"], BODY),
    "chunks after a control character": (["Transfer-Encoding: \x0bchunked"], BODY),
    "a chunk's size in letters": (["Transfer-Encoding: chunked"], b"five\r\nhello\r\n0\r\n\r\n"),
    "a signed chunk size": (["Transfer-Encoding: chunked"], b"+5\r\nhello\r\n0\r\n\r\n"),
    "a chunk size with its base": (["Transfer-Encoding: chunked"], b"0x5\r\nhello\r\n0\r\n\r\n"),
    "a chunk size beyond numbers": (["Transfer-Encoding: chunked"], b"FFFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n"),
    "a chunk longer than it says": (["Transfer-Encoding: chunked"], b"5\r\nhello!\r\n0\r\n\r\n"),
    "chunks with bare line feeds": (["Transfer-Encoding: chunked"], b"5\nhello\n0\n\n"),
    "another host": (["Host: other"], b""),
    "an upgrade before a body": (["Connection: Upgrade", "Upgrade: foo", "Content-Length: 5"], b"hello"),
}


@pytest.mark.parametrize(("lines", "body"), FRAMINGS.values(), ids=FRAMINGS)
def test_a_doubtful_request_is_refused(hasty_scene: Scene, lines: list[str], body: bytes) -> None:
    with Wire(hasty_scene.proxy.port) as wire:
        wire.send(head(*lines, key=hasty_scene.key) + body + SMUGGLED)
        [answer] = wire.answers()

    assert answer.status == 400
    assert json.loads(answer.body)["error"]["message"]
    hasty_scene.assert_nothing_happened()


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /v1/models\r\n\r\n",
        b"GET /v1/models HTTP/2.0\r\nHost: a\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" + BODY,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT proxy:443 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /v1/mod\xffels HTTP/1.1\r\nHost: a\r\n\r\n",
        b"FETCH /v1/models HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"SSH-2.0-OpenSSH\r\n",
    ],
)
def test_what_is_no_http_of_these_versions_is_refused(hasty_scene: Scene, sent: bytes) -> None:
    with Wire(hasty_scene.proxy.port) as wire:
        wire.send(sent)
        [answer] = wire.answers()

    assert answer.status == 400


@pytest.mark.parametrize("header", [f"X-A: {'a' * 70_000}", "\r\n".join(f"X-{number}: a" for number in range(201))])
def test_a_head_that_is_too_large_is_refused(hasty_scene: Scene, header: str) -> None:
    with Wire(hasty_scene.proxy.port) as wire:
        wire.send(head(header, "Content-Length: 0", key=hasty_scene.key))
        [answer] = wire.answers()

    assert answer.status == 431
    assert json.loads(answer.body)["error"]["code"] == "head_too_large"


@pytest.mark.parametrize("framing", ["", "0\r\nX-Trailer: ", "5;extension="])
def test_a_head_or_trailer_without_an_end_is_refused(hasty_scene: Scene, framing: str) -> None:
    begun = head("Transfer-Encoding: chunked", key=hasty_scene.key) if framing else b"GET /v1/models HTTP/1.1\r\nX-A: "
    with Wire(hasty_scene.proxy.port) as wire:
        wire.send(begun + framing.encode(), *[b"a" * 60_000] * 12)
        [answer] = wire.answers()

    assert answer.status == 431


def test_trailers_are_no_headers(hasty_scene: Scene) -> None:
    body = chunked([json.dumps(hasty_scene.chat()).encode()])[:-2]
    with Wire(hasty_scene.proxy.port) as wire:
        wire.send(head("Transfer-Encoding: chunked", key=hasty_scene.key) + body + b"X-Title: smuggled\r\n\r\n")
        answer = wire.answer()

    assert answer is not None
    assert answer.status == 200
    assert hasty_scene.upstream.requests[-1].header("x-title") is None


def test_what_was_asked_for_before_is_answered_whole(hasty_scene: Scene) -> None:
    body = json.dumps(hasty_scene.chat()).encode()
    call = head(f"Content-Length: {len(body)}", key=hasty_scene.key) + body
    with Wire(hasty_scene.proxy.port) as wire:
        wire.send(call + call + head("Transfer-Encoding: chunked", key=hasty_scene.key) + b"five\r\n" + SMUGGLED)
        answers = wire.answers()

    assert [answer.status for answer in answers] == [200, 200, 400]
    assert json.loads(answers[1].body)["usage"]


@pytest.mark.parametrize(
    ("begun", "status"),
    [
        (b"", None),
        (b"\r\n", None),
        (b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nX-A", 408),
        (b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\nAuthorization: Bearer KEY\r\n\r\n{", 408),
        (b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nAuthorization: Bearer KEY\r\n\r\n9", 408),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n\r\n", 200),
    ],
)
def test_a_client_that_sends_a_byte_now_and_then_is_cut_off(hasty_scene: Scene, begun: bytes, status: int | None) -> None:
    with Wire(hasty_scene.proxy.port, patience=0.2) as wire:
        wire.send(begun.replace(b"KEY", hasty_scene.key.encode()))
        answers = []
        until = time.monotonic() + 15
        while time.monotonic() < until:
            try:
                answers = wire.answers()
                break
            except TimeoutError:
                wire.send(b"1" if status == 408 else b"\r\n")
        else:
            raise AssertionError("nothing ended it")

    assert [answer.status for answer in answers] == ([status] if status else [])


def test_beyond_the_most_connections_a_client_is_told_so(hasty_scene: Scene) -> None:
    """And those that are there are served."""
    asking = b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n"
    kept = [Wire(hasty_scene.proxy.port) for _ in range(MOST)]
    try:
        for wire in kept:
            wire.send(asking)
            assert (answer := wire.answer()) is not None
            assert answer.status in (401, 503), "the operator has connections, too"
        with Wire(hasty_scene.proxy.port) as surplus:
            surplus.send(asking)
            [refused] = surplus.answers()
        kept[0].send(asking)
        served = kept[0].answer()
    finally:
        for wire in kept:
            wire.socket.close()

    assert (refused.status, json.loads(refused.body)["error"]["code"]) == (503, "too_many_connections")
    assert int(refused.headers["retry-after"]) >= 1
    assert served is not None
    assert served.status == 401
    wait_until(lambda: hasty_scene.http.get("/v1/models").status_code == 200, what="there is room again")


def test_what_follows_a_declined_upgrade_is_served(hasty_scene: Scene) -> None:
    """Also where it comes with it."""
    body = json.dumps(hasty_scene.chat()).encode()
    offer = head("Connection: Upgrade", "Upgrade: websocket", key=hasty_scene.key, path="/v1/responses", method="GET")
    with Wire(hasty_scene.proxy.port) as wire:
        wire.send(offer + offer + head(f"Content-Length: {len(body)}", key=hasty_scene.key) + body)
        answers = [wire.answer() for _ in range(3)]

    assert [answer and answer.status for answer in answers] == [426, 426, 200]
