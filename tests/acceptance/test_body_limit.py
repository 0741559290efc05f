"""Bodies over `MAX_BODY_BYTES` are refused before they are read, whether they say their length or not; those of just
the limit pass."""

import json
import socket
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.acceptance.refusals import assert_envelope, assert_one_free_failed_row, no_row
from tests.harness.admin import Admin
from tests.harness.postgres import Database
from tests.harness.proxy import Proxy
from tests.harness.scene import Scene
from tests.harness.scene import scene as set_scene

CHAT = "/v1/chat/completions"
LIMIT = 65_536


@pytest.fixture(scope="module")
def narrow(proxies: Callable[..., Proxy]) -> Proxy:
    return proxies(MAX_BODY_BYTES=str(LIMIT))


@pytest.fixture
def narrow_scene(narrow: Proxy, db: Database) -> Iterator[Scene]:
    with Admin(narrow.url) as admin, set_scene(narrow, admin, db) as scene:
        yield scene


def padded(scene: Scene, size: int) -> bytes:
    body = json.dumps(scene.chat() | {"user": ""}).encode()
    return body.replace(b'"user": ""', b'"user": "' + b"u" * (size - len(body)) + b'"')


def test_a_body_of_just_the_limit_passes(narrow_scene: Scene) -> None:
    assert narrow_scene.post(content=padded(narrow_scene, LIMIT)).status_code == 200


def test_a_body_over_the_limit(narrow_scene: Scene) -> None:
    error = assert_envelope(narrow_scene.post(content=padded(narrow_scene, LIMIT + 1)), 413, "body_too_large")

    assert "65536" in error["message"].replace(",", "") or "64" in error["message"]
    narrow_scene.assert_nothing_happened()
    assert_one_free_failed_row(narrow_scene, 413)


def test_a_body_said_to_be_huge_is_refused_before_it_comes(narrow_scene: Scene) -> None:
    head = raw_head(narrow_scene, "Content-Length: 99999999999")

    assert_envelope(raw_exchange(narrow_scene, [head]), 413, "body_too_large")
    narrow_scene.assert_nothing_happened()


def test_a_chunked_body_is_refused_as_soon_as_it_passes_the_limit(narrow_scene: Scene) -> None:
    chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
    head = raw_head(narrow_scene, "Transfer-Encoding: chunked")

    assert_envelope(raw_exchange(narrow_scene, [head, *[chunk] * 5]), 413, "body_too_large")
    narrow_scene.assert_nothing_happened()


def test_a_chunked_body_within_the_limit_passes(narrow_scene: Scene) -> None:
    body = json.dumps(narrow_scene.chat()).encode()

    assert narrow_scene.post(content=iter([body[:9], body[9:]])).status_code == 200


def test_a_client_that_leaves_in_the_middle_of_its_body(narrow_scene: Scene) -> None:
    with socket.create_connection(("127.0.0.1", narrow_scene.proxy.port), 10) as connection:
        connection.sendall(raw_head(narrow_scene, "Content-Length: 1000") + b'{"model"')

    no_row(narrow_scene)
    narrow_scene.assert_nothing_happened()


def raw_head(scene: Scene, framing: str) -> bytes:
    lines = [
        f"POST {CHAT} HTTP/1.1",
        "Host: proxy",
        f"Authorization: Bearer {scene.key}",
        "Content-Type: application/json",
    ]
    return "\r\n".join([*lines, framing, "", ""]).encode()


def raw_exchange(scene: Scene, pieces: list[bytes]) -> httpx.Response:
    """Sends the pieces and reads the answer, without ever ending the request."""
    with socket.create_connection(("127.0.0.1", scene.proxy.port), 10) as connection:
        for piece in pieces:
            connection.sendall(piece)
        received = b""
        while b"\r\n\r\n" not in received or not received.rstrip().endswith(b"}"):
            part = connection.recv(65536)
            assert part, f"the connection ended after {received!r}"
            received += part
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    return httpx.Response(int(status.split()[1]), headers=headers, content=body)
