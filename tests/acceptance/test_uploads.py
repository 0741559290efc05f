"""Forms pass through without being held in memory, and leave nothing behind: no file, no hold, no task, whatever becomes of
them."""

import gzip
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from tests.acceptance.refusals import assert_envelope, assert_one_free_failed_row, no_row
from tests.acceptance.test_body_limit import raw_exchange
from tests.harness.admin import Admin
from tests.harness.books import wait_until
from tests.harness.forms import BOUNDARY, FORM, form, hearing, part, sound
from tests.harness.honest_media import TEXT
from tests.harness.postgres import Database
from tests.harness.proxy import Proxy
from tests.harness.scene import Scene
from tests.harness.scene import scene as set_scene

PATH = "/v1/audio/transcriptions"
EDITS = "/v1/images/edits"
SECONDS = {"second": "0.0001"}
LIMIT = 900_000
MEGABYTE = 1024 * 1024


@pytest.fixture(scope="module")
def proxy(proxies: Callable[..., Proxy]) -> Proxy:
    return proxies()


@pytest.fixture(scope="module")
def narrow(proxies: Callable[..., Proxy]) -> Proxy:
    return proxies(MAX_UPLOAD_BYTES=str(LIMIT), UPLOADS_MAX_BYTES=str(MEGABYTE))


@pytest.fixture(scope="module")
def hasty(proxies: Callable[..., Proxy]) -> Proxy:
    return proxies(CLIENT_IDLE_TIMEOUT="0.5")


@pytest.fixture
def scene(new_scene: Callable[..., Scene]) -> Scene:
    return new_scene(rates=SECONDS, upstream_model="whisper-1")


@pytest.fixture
def narrow_scene(narrow: Proxy, db: Database) -> Iterator[Scene]:
    with Admin(narrow.url) as admin, set_scene(narrow, admin, db, rates=SECONDS, upstream_model="whisper-1") as scene:
        yield scene


@pytest.fixture
def hasty_scene(hasty: Proxy, db: Database) -> Iterator[Scene]:
    with Admin(hasty.url) as admin, set_scene(hasty, admin, db, rates=SECONDS) as scene:
        yield scene


def post(scene: Scene, body: bytes, path: str = PATH, **headers: str) -> httpx.Response:
    return scene.http.post(path, content=body, headers={"content-type": FORM} | headers)


def open_uploads(proxy: Proxy) -> dict[str, int]:
    """The files without names that the proxy holds open, and their sizes."""
    if not sys.platform.startswith("linux"):
        pytest.skip("which files are open is asked of /proc")
    found = {}
    for link in Path(f"/proc/{proxy.process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            if "/uploads/" in (name := str(link.readlink())):
                found[name] = link.stat().st_size
    return found


def assert_nothing_left(scene: Scene) -> None:
    wait_until(lambda: not open_uploads(scene.proxy), what="no upload lies there any longer")
    assert scene.db.value("SELECT count(*) FROM aigcspace.call_hold WHERE user_id = $1", scene.user) == 0


def head(scene: Scene, framing: str) -> bytes:
    lines = [f"POST {PATH} HTTP/1.1", "Host: proxy", f"Authorization: Bearer {scene.key}", f"Content-Type: {FORM}", framing]
    return "\r\n".join([*lines, "", ""]).encode()


def test_thirty_megabytes_pass_through_in_constant_memory(scene: Scene) -> None:
    recording = sound(30 * MEGABYTE / 32_000)
    body = hearing(scene.model, recording, response_format="text")
    post(scene, hearing(scene.model, sound(1)))  # what is loaded on first use
    process = psutil.Process(scene.proxy.process.pid)
    before, most, lay_there = process.memory_info().rss, 0, False

    def pieces() -> Iterator[bytes]:
        nonlocal most, lay_there
        for start in range(0, len(body), 65_536):
            yield body[start : start + 65_536]
            most = max(most, process.memory_info().rss)
            lay_there = lay_there or bool(open_uploads(scene.proxy))

    answer = scene.http.post(PATH, content=pieces(), headers={"content-type": FORM, "content-length": str(len(body))})
    most = max(most, process.memory_info().rss)

    assert answer.text == f"{TEXT}\n"
    assert most - before < 10 * MEGABYTE
    assert lay_there
    received = scene.upstream.requests[-1]
    assert received.body == body.replace(scene.model.encode(), b"whisper-1")
    assert received.header("content-length") == str(len(received.body))
    assert_nothing_left(scene)


@pytest.mark.parametrize("seconds", [1, 40])
def test_an_upload_that_needs_no_change_arrives_as_it_is(new_scene: Callable[..., Scene], seconds: int) -> None:
    scene = new_scene(rates=SECONDS, model=f"whisper-{seconds}", upstream_model=f"whisper-{seconds}")
    body = hearing(scene.model, sound(seconds))

    assert post(scene, body).json()["text"] == TEXT
    assert scene.upstream.requests[0].body == body
    assert scene.upstream.requests[0].header("content-type") == FORM


def test_an_upload_whose_path_names_the_model(scene: Scene) -> None:
    body = form([part("file", sound(1), filename="a.wav")])

    answer = post(scene, body, f"/openai/deployments/{scene.model}/audio/transcriptions")

    assert answer.status_code == 200, answer.text
    assert scene.upstream.requests[0].body == part("model", "whisper-1") + body
    assert scene.row()["model_name"] == scene.model


@pytest.mark.parametrize("path", ["/audio/transcriptions", "/v1/v1/audio/transcriptions", "/openai/v1/audio/transcriptions"])
def test_paths_as_clients_put_them_together(scene: Scene, path: str) -> None:
    assert post(scene, hearing(scene.model, sound(1)), path).status_code == 200
    assert scene.upstream.requests[0].path == PATH


FILE = part("file", "x", filename="a")


def named(scene: Scene, *parts: bytes) -> bytes:
    return form([part("model", scene.model), *parts])


Made = Callable[[Scene], bytes]
HOSTILE: dict[str, tuple[dict[str, str], Made, str]] = {
    "no boundary": ({"content-type": "multipart/form-data"}, named, "invalid_form"),
    "another boundary": ({"content-type": f"{FORM}x"}, named, "invalid_form"),
    "cut": ({}, lambda scene: hearing(scene.model, b"x" * 500_000)[:-9], "invalid_form"),
    "10,000 parts": ({}, lambda scene: named(scene, *[part("a", "b")] * 10_000), "too_many_parts"),
    "a huge name": ({}, lambda scene: named(scene, part("m" * 100_000, "x")), "invalid_form"),
    "a huge field": ({}, lambda scene: named(scene, part("prompt", "x" * 300_000)), "field_too_large"),
    "two models": ({}, lambda scene: named(scene, FILE, part("model", "cheap")), "ambiguous_field"),
    "a model that is a file": ({}, lambda scene: form([part("model", scene.model, filename="a"), FILE]), "ambiguous_field"),
    "two files": ({}, lambda scene: named(scene, FILE, FILE), "ambiguous_field"),
    "no file": ({}, named, "missing_file"),
    "no model": ({}, lambda scene: form([FILE]), "missing_model"),
    "a stream that is neither": ({}, lambda scene: named(scene, FILE, part("stream", "perhaps")), "invalid_type"),
    "JSON": ({"content-type": "application/json"}, lambda scene: b'{"model":"m"}', "invalid_form"),
    "packed": ({"content-encoding": "gzip"}, lambda scene: gzip.compress(named(scene, FILE)), "unsupported_content_encoding"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_form_that_is_none_is_refused_and_leaves_nothing(scene: Scene, what: str) -> None:
    headers, made, code = HOSTILE[what]

    assert_envelope(post(scene, made(scene), **headers), 400, code)
    scene.assert_nothing_happened()
    assert_one_free_failed_row(scene, 400)
    assert_nothing_left(scene)


@pytest.mark.parametrize(("name", "value"), [("n", "two"), ("n", "0"), ("n", "1e9"), ("stream", "7"), ("partial_images", "-1")])
def test_a_field_of_a_wrong_type(scene: Scene, name: str, value: str) -> None:
    body = form([part("model", scene.model), part("image", b"x", filename="a.png"), part(name, value)])

    assert name in assert_envelope(post(scene, body, EDITS), 400, "invalid_type")["message"]


def test_a_refused_upload_leaves_nothing(new_scene: Callable[..., Scene]) -> None:
    scene = new_scene(rates=SECONDS, credit="0.001")

    error = assert_envelope(post(scene, hearing(scene.model, sound(60))), 402)

    assert "output limit" not in error["message"]
    scene.assert_nothing_happened()
    assert_nothing_left(scene)


def test_an_upload_over_the_limit_is_refused_at_once(narrow_scene: Scene) -> None:
    answer = raw_exchange(narrow_scene, [head(narrow_scene, f"Content-Length: {LIMIT + 1}")])

    assert str(LIMIT) in assert_envelope(answer, 413, "body_too_large")["message"]
    narrow_scene.assert_nothing_happened()


def test_an_upload_that_says_no_length_is_refused_where_it_passes_the_limit(narrow_scene: Scene) -> None:
    start = part("model", narrow_scene.model) + part("file", b"x" * (LIMIT // 2), filename="a")[:-2]
    chunks = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (start, b"x" * (LIMIT // 2))]

    answer = raw_exchange(narrow_scene, [head(narrow_scene, "Transfer-Encoding: chunked"), *chunks])

    assert_envelope(answer, 413, "body_too_large")
    assert_nothing_left(narrow_scene)


def lies_still(proxy: Proxy) -> bool:
    """While more of it comes, it may be the one that there is no room for."""
    before = open_uploads(proxy)
    time.sleep(0.3)
    return sum(before.values()) > LIMIT // 2 and before == open_uploads(proxy)


def test_there_is_no_room_for_more_than_so_much_at_once(narrow_scene: Scene) -> None:
    body = hearing(narrow_scene.model, b"x" * (LIMIT - 1000))
    with socket.create_connection(("127.0.0.1", narrow_scene.proxy.port), 10) as connection:
        connection.sendall(head(narrow_scene, f"Content-Length: {len(body)}") + body[:-100])
        wait_until(lambda: lies_still(narrow_scene.proxy), what="the first lies there, as far as it has come")
        answer = wait_until(lambda: (one := post(narrow_scene, body)).status_code == 503 and one, what="no room beside the whole of it")

    assert_envelope(answer, 503, "no_room_for_upload")
    assert answer.headers["retry-after"]
    assert_nothing_left(narrow_scene)
    assert post(narrow_scene, body).status_code == 200


@pytest.mark.parametrize("sent", [200, 600_000])
def test_a_client_that_leaves_in_the_middle_leaves_nothing(scene: Scene, sent: int) -> None:
    body = hearing(scene.model, b"x" * MEGABYTE)
    with socket.create_connection(("127.0.0.1", scene.proxy.port), 10) as connection:
        connection.sendall(head(scene, f"Content-Length: {len(body)}") + body[:sent])
        if sent > 300_000:
            wait_until(lambda: open_uploads(scene.proxy), what="the upload lies there")

    no_row(scene)
    scene.assert_nothing_happened()
    assert_nothing_left(scene)


def test_an_upload_that_stops_coming_is_ended(hasty_scene: Scene) -> None:
    answer = raw_exchange(hasty_scene, [head(hasty_scene, "Content-Length: 100000") + f"--{BOUNDARY}\r\n".encode()])

    assert_envelope(answer, 400, "body_stalled")
    assert_nothing_left(hasty_scene)


def test_an_upstream_that_answers_before_it_has_read_all(scene: Scene) -> None:
    scene.upstream.answer(json={"error": {"message": "no"}}, status=400)

    assert post(scene, hearing(scene.model, b"x" * 3 * MEGABYTE)).status_code == 400
    assert_nothing_left(scene)


def test_an_upstream_that_breaks_off(scene: Scene) -> None:
    scene.upstream.raw(b"", how="rst")

    assert post(scene, hearing(scene.model, b"x" * 3 * MEGABYTE)).status_code == 502
    assert_nothing_left(scene)
