"""What clients ask beside calls: HEAD, OPTIONS, WebSocket, methods that a path doesn't take."""

import json
import socket

import httpx
import pytest

from tests.acceptance.refusals import assert_envelope
from tests.harness.scene import Scene

CALLS = ["/v1/chat/completions", "/chat/completions", "/v1/messages", "/v1beta/models/gemini-2.5-pro:generateContent", "/v1/v1/responses"]
HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@pytest.mark.parametrize("path", ["/v1/models", "/v1/key", "/dashboard/billing/usage", "/healthz"])
def test_head_is_get_without_its_body(scene: Scene, path: str) -> None:
    asked, head = scene.http.get(path), scene.http.head(path)

    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(asked.content))
    assert head.headers["content-type"] == asked.headers["content-type"]


def test_head_of_an_unknown_model(scene: Scene) -> None:
    assert (scene.http.head("/v1/models/none").status_code, scene.http.head("/v1/models/none").content) == (404, b"")


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        *((path, "POST, OPTIONS") for path in CALLS),
        ("/v1/models", "GET, HEAD, OPTIONS"),
        ("/dashboard/billing/usage", "GET, HEAD, OPTIONS"),
    ],
)
def test_options_are_told_to_whoever_asks(scene: Scene, path: str, allowed: str) -> None:
    answer = httpx.options(f"{scene.proxy.url}{path}", trust_env=False)

    assert (answer.status_code, answer.headers["allow"], answer.content) == (204, allowed, b"")
    assert "x-request-id" in answer.headers
    assert "access-control-allow-origin" not in answer.headers


def test_options_of_nothing(scene: Scene) -> None:
    assert_envelope(scene.http.options("/v1/nothing"), 404, "unknown_url")


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
@pytest.mark.parametrize("path", CALLS)
def test_a_call_is_made_by_post_alone(scene: Scene, method: str, path: str) -> None:
    answer = scene.http.request(method, path)

    assert (answer.status_code, answer.headers["allow"]) == (405, "POST, OPTIONS")
    if method == "GET":
        assert "use POST" in answer.json()["error"]["message"]
        kind = "anthropic" if "type" in answer.json() else "google" if "details" in answer.json()["error"] else "openai"
        assert kind == ("anthropic" if "messages" in path else "google" if "gemini" in path else "openai")


@pytest.mark.parametrize("path", ["/v1/responses", "/responses", "/v1/realtime?model=gpt-realtime", "/openai/v1/realtime"])
def test_websocket_is_refused_so_that_clients_go_on_with_http(scene: Scene, path: str) -> None:
    answer = scene.http.get(path, headers=HANDSHAKE)

    assert "Use HTTP" in assert_envelope(answer, 426, "websocket_unsupported")["message"]
    assert answer.headers["upgrade"] == "HTTP/1.1"
    assert "WebSocket library" not in scene.proxy.output()


def test_the_connection_of_a_refused_handshake_serves_the_call_that_follows(scene: Scene) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in HANDSHAKE.items())
    body = json.dumps({"model": scene.model, "input": "hello there"})
    with socket.create_connection(("127.0.0.1", scene.proxy.port), 10) as connection, connection.makefile("rb") as answers:
        connection.sendall(f"GET /v1/responses HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode())
        assert answers.readline() == b"HTTP/1.1 426 Upgrade Required\r\n"
        _rest(answers)
        head = f"POST /v1/responses HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {scene.key}\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall((head + body).encode())
        assert answers.readline() == b"HTTP/1.1 200 OK\r\n"
        assert json.loads(_rest(answers))["object"] == "response"


def test_a_client_that_offers_http_2_is_served_all_the_same(scene: Scene) -> None:
    """Java's own client does so with each request to a plain address."""
    offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA"}

    assert scene.post(scene.chat(), headers=offer).status_code == 200
    assert scene.http.get("/v1/models", headers=offer).status_code == 200


def _rest(answers) -> bytes:
    """Of an answer whose status line has been read: its body."""
    length = 0
    while (line := answers.readline()) != b"\r\n":
        name, _, value = line.decode().partition(":")
        length = int(value) if name.lower() == "content-length" else length
    return bytes(answers.read(length))
