"""Requests that come compressed go upstream as they are underneath; what can't be unpacked, or is too large, is refused."""

import gzip
import json
import secrets
import zlib

import pytest
import zstandard

from tests.harness.scene import Scene

PACKED = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "GZIP": gzip.compress,
    "gzip in two members": lambda body: gzip.compress(body[:20]) + gzip.compress(body[20:]),
    "zstd in two frames": lambda body: zstandard.ZstdCompressor().compress(body[:20]) + zstandard.ZstdCompressor().compress(body[20:]),
}


def body_of(scene: Scene, content: str = "hello there") -> bytes:
    return json.dumps(scene.chat(content)).encode()


def post(scene: Scene, body: bytes, encoding: str):
    headers = {"content-encoding": encoding.split(" ", maxsplit=1)[0], "content-type": "application/json"}
    return scene.post(None, content=body, headers=headers)


@pytest.mark.parametrize("how", PACKED)
def test_a_packed_body_goes_on_unpacked(scene: Scene, how: str) -> None:
    answer = post(scene, PACKED[how](body_of(scene)), how)

    assert answer.status_code == 200, answer.text
    received = scene.upstream.requests[0]
    assert received.json["messages"] == scene.chat()["messages"]
    assert received.header("content-encoding") is None


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
@pytest.mark.parametrize("damage", [lambda packed: packed[:-4], lambda packed: b"{}", lambda packed: packed[:8] + b"\xff" * 12])
def test_a_damaged_one_is_refused(scene: Scene, encoding: str, damage) -> None:
    answer = post(scene, damage(PACKED[encoding](body_of(scene))), encoding)

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_compression")
    assert scene.upstream.requests == []


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_large_one_that_was_cut_is_refused(scene: Scene, encoding: str) -> None:
    packed = PACKED[encoding](body_of(scene, secrets.token_hex(500_000)))

    answer = post(scene, packed[: len(packed) // 2], encoding)

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_compression")


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_large_one_goes_on(scene: Scene, encoding: str) -> None:
    body = body_of(scene, secrets.token_hex(500_000)) + b" " * 10

    assert post(scene, PACKED[encoding](body[:400_000]) + PACKED[encoding](body[400_000:]), encoding).status_code in (200, 402)


def test_an_unknown_encoding_is_refused(scene: Scene) -> None:
    answer = post(scene, body_of(scene), "br")

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unsupported_content_encoding")


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_bomb_is_refused(scene: Scene, encoding: str) -> None:
    bomb = PACKED[encoding](b" " * (40 * 1024 * 1024))
    assert len(bomb) < 100_000

    answer = post(scene, bomb, encoding)

    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
    assert "unpacks to" in answer.json()["error"]["message"]


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_many_empty_parts_are_refused(scene: Scene, encoding: str) -> None:
    answer = post(scene, PACKED[encoding](b"") * 100_000, encoding)

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_compression")
    assert answer.elapsed.total_seconds() < 5
