"""Strings that a database, a parser or a terminal might choke on, wherever a caller or an upstream can put one: each such call
has its own row, or its refusal has, and the calls of others that share its batches notice nothing."""

import json
import secrets
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from tests.faults.conftest import Tally
from tests.harness import scene as scenes
from tests.harness.admin import Admin
from tests.harness.answers import Usage
from tests.harness.books import wait_until
from tests.harness.fault_books import assert_books, compare
from tests.harness.load import Load
from tests.harness.postgres import Database
from tests.harness.proxy import Proxy
from tests.harness.scene import Scene

POISONS = {
    "NUL": "a\x00b",
    "nothing but NUL": "\x00" * 300,
    "half a character": "a\ud800b",
    "the other half": "\udfff",
    "halves in the wrong order": "\udc00\ud800",
    "10 KB": "x" * 10_000,
    "10 KB of four bytes each": "\U0001f469" * 10_000,
    "a cut within a character": "x" * 254 + "\U0001f469\u200d\U0001f467",
    "emoji": "\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466\U0001f3f3\ufe0f\u200d\U0001f308",
    "right to left": "\u202e\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627\u202c",
    "control characters": "".join(map(chr, range(1, 32))) + "\x7f\x85\u2028\u2029\ufeff",
    "no characters": "\uffff\ufffe\U0010ffff",
    "marks without end": "e" + "\u0301" * 1000,
    "a long text in escapes": "\u4e2d" * 30_000,
    "quotes": "'\"; -- \\ \\u0000 $1 %s {} :name $$",
    "a terminal's orders": "\x1b[2J\x1b]0;title\x07",
}
USED = Usage(input=7, output=3)
Send = Callable[[Scene, str], tuple[int, str]]
"""Makes a call that holds the string; returns status and request id."""


@pytest.fixture(scope="module")
def proxy(proxies: Callable[..., Proxy]) -> Proxy:
    return proxies(ALLOW_UNPRICED="true")


def post(scene: Scene, body: dict[str, Any]) -> tuple[int, str]:
    """Surrogates and control characters go as escapes of JSON."""
    answer = scene.post(content=json.dumps(body).encode(), headers={"Content-Type": "application/json"})
    return answer.status_code, answer.headers["x-request-id"]


def in_an_unknown_model(scene: Scene, text: str) -> tuple[int, str]:
    return post(scene, scene.chat() | {"model": text})


def in_a_served_model(scene: Scene, text: str) -> tuple[int, str]:
    return post(scene, scene.chat() | {"model": f"{scene.model}/{text}"})


def in_the_end_user(scene: Scene, text: str) -> tuple[int, str]:
    return post(scene, scene.chat() | {"user": text})


def in_a_text_that_is_counted_here(scene: Scene, text: str) -> tuple[int, str]:
    scene.upstream.answer(body=json.dumps({"choices": [{"index": 0, "message": {"content": text}}]}).encode())
    return post(scene, scene.chat(text))


def in_the_path(scene: Scene, text: str) -> tuple[int, str]:
    answer = scene.post(scene.chat(), params={"user": text.encode("utf-8", "replace")[:4000]})
    return answer.status_code, answer.headers["x-request-id"]


def in_an_error(scene: Scene, text: str) -> tuple[int, str]:
    scene.upstream.answer(body=json.dumps({"error": {"message": text, "code": text}}).encode(), status=400)
    return post(scene, scene.chat())


def raw_in_an_error(scene: Scene, text: str) -> tuple[int, str]:
    scene.upstream.answer(body=b'{"error": {"message": "' + text.encode("utf-8", "surrogatepass") + b'"}}', status=422)
    return post(scene, scene.chat())


def in_an_event_of_an_error(scene: Scene, text: str) -> tuple[int, str]:
    error = json.dumps({"error": {"message": text}})
    scene.upstream.stream([{"choices": [{"index": 0, "delta": {"content": "word"}}]}, error, "[DONE]"])
    return post(scene, scene.chat(stream=True))


def in_an_answer(scene: Scene, text: str) -> tuple[int, str]:
    whole = {"id": text, "model": text, "choices": [{"index": 0, "message": {"content": text}, "finish_reason": text}]}
    scene.upstream.answer(json=whole | {"usage": USED.chat()}, usage=USED)
    return post(scene, scene.chat())


def in_a_header_of_the_upstream(scene: Scene, text: str) -> tuple[int, str]:
    value = text.encode("utf-8", "surrogatepass").decode("latin-1")
    scene.upstream.answer(json={"choices": [], "usage": USED.chat()}, headers={"x-poison": value}, usage=USED)
    return post(scene, scene.chat())


def in_the_type_of_an_answer(scene: Scene, text: str) -> tuple[int, str]:
    value = text.replace("\r", "").replace("\n", "").replace("\0", "")[:2000].encode("utf-8", "surrogatepass").decode("latin-1")
    scene.upstream.answer(json={"choices": [], "usage": USED.chat()}, headers={"content-type": f"application/json; x={value}"}, usage=USED)
    return post(scene, scene.chat())


def in_a_header(scene: Scene, text: str) -> tuple[int, str]:
    """By hand, as no client sends such. A server may cut such a connection before it is a call."""
    body = json.dumps(scene.chat()).encode()
    value = text.encode("utf-8", "surrogatepass")[:10_000]
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: proxy\r\nConnection: close\r\nAuthorization: Bearer {scene.key}\r\n".encode()
    head += b"Content-Length: %d\r\nUser-Agent: %b\r\nX-Title: %b\r\n\r\n" % (len(body), value, value)
    with socket.create_connection(("127.0.0.1", scene.proxy.port), 10) as connection:
        connection.sendall(head + body)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    said, _, _rest = answer.decode("latin-1").partition("\r\n\r\n")
    lines = dict(line.lower().split(": ", 1) for line in said.split("\r\n")[1:])
    return int(said.split(" ")[1]), lines.get("x-request-id", "")


PLACES: dict[Send, set[int]] = {
    in_an_unknown_model: {400, 404},
    in_a_served_model: {200, 400},
    in_the_end_user: {200, 400},
    in_a_text_that_is_counted_here: {200, 400},
    in_the_path: {200},
    in_an_error: {400},
    raw_in_an_error: {422},
    in_an_event_of_an_error: {200},
    in_an_answer: {200},
    in_a_header_of_the_upstream: {200, 502},
    in_the_type_of_an_answer: {200, 502},
    in_a_header: {200, 400},
}
"""Where a string may be, and what the answer may be."""


@contextmanager
def poisonable(proxy: Proxy, admin: Admin, db: Database) -> Iterator[Scene]:
    """A scene that also serves whatever begins with its model's name and a slash."""
    with scenes.scene(proxy, admin, db) as scene:
        admin.add_upstream(f"more-{secrets.token_hex(4)}", f"{scene.upstream.url}/v1", [f"{scene.model}/*"])
        yield scene


@pytest.mark.timeout(600)
@pytest.mark.parametrize("send", PLACES, ids=lambda send: send.__name__)
def test_a_poisoned_call_has_its_own_row_and_spoils_no_other(
    send: Send, proxy: Proxy, admin: Admin, db: Database, scale: Callable[..., int], tally: Callable[..., Tally]
) -> None:
    poisoned = tally("poisoned strings", "calls", scale(full=10, short=1) * len(POISONS))
    with poisonable(proxy, admin, db) as scene, scenes.scene(proxy, admin, db) as others:
        with Load(proxy.url, key=others.key, model=others.model, in_flight=3) as load:
            wait_until(lambda: load.successes > 0, what="others call")
            while not poisoned.is_complete:
                sent = send_all(send, scene)
                poisoned.add(len(sent))
                assert_own_rows(scene, sent, PLACES[send])
        assert [one for one in load.seen if not one.is_success] == []
        assert_books(db, at_rest_within=20)
        assert len(others.rows()) == len(load.seen)
        compare(load.seen, others.rows(), others.upstream.ledger)


def send_all(send: Send, scene: Scene) -> dict[str, tuple[int, str]]:
    """At once, so that they share batches, unless the upstream's answers have to come in turn."""
    with ThreadPoolExecutor(1 if "upstream" in send.__code__.co_names else 8) as threads:
        return dict(zip(POISONS, threads.map(lambda text: send(scene, text), POISONS.values()), strict=True))


def assert_own_rows(scene: Scene, sent: dict[str, tuple[int, str]], expected: set[int]) -> None:
    rows = {str(row["request_id"]): row for row in scene.rows()}
    assert {name: status for name, (status, _) in sent.items() if status not in expected} == {}
    for name, (status, request_id) in sent.items():
        if not request_id:  # the server itself refused it, as no HTTP
            assert status == 400
            continue
        row = rows[request_id]
        assert "reduced" not in (row["flags"] or []), (name, row["error_message"])
        assert "\x00" not in json.dumps(row, default=str, ensure_ascii=False)
        assert row["http_status"] == status, name
        assert (row["status"] == "success") == (status == 200 and row["end_reason"] != "upstream_error"), name
        text = POISONS[name]
        for column in ("model_name", "end_user"):
            if row[column] and storable(text) and status != 400:
                assert row[column] in (scene.model, text[:255], f"{scene.model}/{text}"[:255]), name


def storable(text: str) -> bool:
    return "\x00" not in text and not any("\ud800" <= character <= "\udfff" for character in text)
