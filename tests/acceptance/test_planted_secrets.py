"""Secrets that somebody puts where they don't belong: they come out nowhere.

`PLACES` are all the places where anything of a call or of an operator's change comes out: a new one is one line there.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.harness import honest_responses
from tests.harness.admin import Admin
from tests.harness.answers import Usage
from tests.harness.books import wait_until
from tests.harness.database_relay import DatabaseRelay
from tests.harness.postgres import Database
from tests.harness.proxy import ADMIN_TOKEN, SECRET_KEY, Proxy
from tests.harness.scene import UPSTREAM_SECRET as SECRET
from tests.harness.scene import Scene
from tests.harness.scene import scene as set_scene

USAGE = Usage(input=30, output=12)
COUNTS = {"prompt_tokens": 5, "completion_tokens": 9, "total_tokens": 14}
TABLES = "SELECT table_name AS name FROM information_schema.tables WHERE table_schema = 'aigcspace' AND table_type = 'BASE TABLE'"


def pages(*paths: str) -> Callable[[Scene], Iterator[str]]:
    """What operators are shown there."""
    return lambda scene: (scene.admin.http.get(path.format(scene=scene)).raise_for_status().text for path in paths)


def lines(scene: Scene) -> Iterable[str]:
    return [scene.proxy.output()]


def spool(scene: Scene) -> Iterator[str]:
    """And whatever else there is in `DATA_DIR`."""
    files = [path for path in scene.proxy.data.rglob("*") if path.is_file()]
    return (path.read_text("latin-1") for path in files)


PLACES: dict[str, Callable[[Scene], Iterable[str]]] = {
    "log lines": lines,
    "spool": spool,
    "calls": pages("/logs?user_id={scene.user}", "/logs/stats?group_by=model", "/logs/live"),
    "exports": pages("/logs/export?format=csv", "/logs/export?format=ndjson", "/admin/prices/export"),
    "audit entries": pages("/admin/audit?limit=500"),
    "catalog": pages(
        "/admin/users/{scene.user}", "/admin/keys?user_id={scene.user}", "/admin/upstreams/{scene.upstream_id}", "/admin/routes"
    ),
    "statement": pages("/admin/users/{scene.user}/statement?month=2030-01"),
    "documentation": pages("/openapi.json"),
    "metrics": pages("/metrics"),
    "dashboard": pages("/dashboard/sign-in", "/admin/state"),
}


def found(scene: Scene, *secrets: str) -> list[str]:
    """Where one of them is, beside the rows of all tables."""
    rows = [f"a row of {table['name']}" for table in scene.db.fetch(TABLES) for secret in secrets if is_in(scene.db, table["name"], secret)]
    return rows + [place for place, shown in PLACES.items() if any(secret in text for text in shown(scene) for secret in secrets)]


def is_in(db: Database, table: str, secret: str) -> bool:
    return bool(db.value(f"SELECT EXISTS (SELECT FROM aigcspace.{table} t WHERE strpos(to_jsonb(t)::text, $1) > 0)", secret))


def test_what_an_upstream_says_of_its_own_key_stays_here(scene: Scene) -> None:
    said = honest_responses.message(f"It is {SECRET}.", id=f"msg_{SECRET}")
    kept = honest_responses.response({"model": "m"}, "completed", output=[said], usage=USAGE) | {"id": f"resp_{scene.model}"}
    spoken = {"message": {"role": "assistant", "content": SECRET, "audio": {"id": f"audio_{SECRET}", "data": "AA"}}}
    advised = {"input_tokens": 5, "output_tokens": 1, "iterations": [{"model": SECRET, "input_tokens": 5, "output_tokens": 1}]}
    message = {"id": "msg_1", "type": "message", "content": [{"type": "text", "text": "4"}], "usage": advised}
    failed = kept | {"status": "failed", "error": {"code": "x", "message": SECRET}}
    told: list[str] = []

    def take(path: str, asked: dict[str, Any]) -> None:
        answer = scene.post({"model": scene.model, **asked}, path)
        told.append(f"{answer.headers} {answer.text}")

    chat = {"messages": [{"role": "user", "content": "hi"}]}
    scene.upstream.answer(json={"error": {"message": SECRET}}, status=400, headers={"x-debug": SECRET})
    take("/v1/chat/completions", chat)
    scene.upstream.answer(json={"id": "c", "choices": [spoken], "usage": COUNTS, "service_tier": SECRET})
    take("/v1/chat/completions", chat | {"modalities": ["text", "audio"], "audio": {"voice": "a", "format": "wav"}})
    scene.upstream.answer(json=message)
    take("/v1/messages", chat | {"max_tokens": 5})
    scene.upstream.answer(json=scene.upstream.kept.put(kept))
    take("/v1/responses", {"input": "hi"})
    scene.upstream.stream([honest_responses.event("response.failed", 0, response=failed)])
    take("/v1/responses", {"input": "hi", "stream": True})
    told.append(scene.http.get(f"/v1/responses/{kept['id']}").text)

    wait_until(lambda: len(scene.rows()) == 5, what="a row of each")
    assert [text for text in told if SECRET in text] == []
    assert found(scene, SECRET) == []


def test_a_background_response_that_its_client_asks_for_tells_no_key_to_its_row(scene: Scene) -> None:
    queued = honest_responses.response({"model": "m"}, "queued") | {"id": f"resp_{scene.model}", "background": True}
    scene.upstream.answer(json=scene.upstream.kept.put(queued))
    scene.upstream.kept.finish(queued["id"], "failed", usage=USAGE)
    scene.upstream.kept.objects[queued["id"]]["error"] = {"code": "x", "message": f"not with {SECRET}"}
    assert scene.post({"model": scene.model, "input": "hi", "background": True}, "/v1/responses").status_code == 200

    assert SECRET not in scene.http.get(f"/v1/responses/{queued['id']}").text

    assert scene.row()["error_message"] == f"not with {'*' * len(SECRET)}"


def test_a_client_that_puts_its_key_elsewhere_leaves_it_in_no_row(scene: Scene) -> None:
    for asked in (
        {"model": scene.key, "input": "hi"},
        {"model": scene.model, "input": "hi", "previous_response_id": scene.key},
        {"model": scene.model, "input": [{"type": "item_reference", "id": scene.key}]},
        {"model": scene.model, "input": "hi", "user": scene.key, "metadata": {scene.key: scene.key}, "store": False},
    ):
        scene.post(asked, "/v1/responses")

    wait_until(lambda: len(scene.rows()) == 4, what="a row of each")
    assert found(scene, scene.key) == []


def test_a_word_that_an_upstream_is_given_as_its_key_stays_in_its_answers(new_scene: Callable[..., Scene]) -> None:
    """Local servers want some key, whichever."""
    scene = new_scene(api_key="none")
    answer = {"id": "c", "choices": [{"message": {"role": "assistant", "content": "none"}}], "usage": COUNTS}
    event = f"data: {json.dumps(answer)}\n\n".encode()
    scene.upstream.answer(json=answer)
    scene.upstream.stream([event, b"data: [DONE]\n\n"])

    assert scene.post(scene.chat()).json() == answer
    assert scene.post(scene.chat(stream=True, stream_options={"include_usage": True})).content == event + b"data: [DONE]\n\n"


def test_what_operators_send_wrongly_or_change_is_not_told_again(scene: Scene) -> None:
    """`planted` as a secret of an upstream, and where it makes no sense."""
    planted, told = f"planted-{scene.user}", []

    def take(method: str, path: str, **how: Any) -> None:
        answer = scene.admin.http.request(method, path, **how)
        told.append(f"{answer.headers} {answer.text}")

    upstream = f"/admin/upstreams/{scene.upstream_id}"
    take("PATCH", upstream, json={"api_key": planted})
    take("PATCH", upstream, json={"api_keys": [planted, f"{planted}-2"]})
    take("PATCH", upstream, json={"api_key": [planted]})
    take("PATCH", upstream, json={"api_kay": planted, "priority": planted, "base_url": f"http://x:{planted}@127.0.0.1"})
    take("POST", "/admin/upstreams", content=f'{{"name": "{planted}'.encode())
    take("POST", f"{upstream}/test", json={})
    take("GET", "/admin/users", headers={"Authorization": f"Bearer {planted}"})
    take("GET", "/logs", headers={"Authorization": f"Bearer {planted}"})
    take("POST", "/v1/chat/completions", json=scene.chat(), headers={"Authorization": f"Bearer {planted}"})
    take("GET", "/v1/models", params={"key": planted}, headers={"Authorization": ""})

    assert [text for text in told if planted in text] == []
    assert found(scene, planted, ADMIN_TOKEN, SECRET_KEY) == []


@pytest.fixture
def relay(db: Database) -> Iterator[DatabaseRelay]:
    with DatabaseRelay(db.url) as relay:
        yield relay
        relay.pass_all()


def test_the_spool_holds_no_key(relay: DatabaseRelay, db: Database, tmp_path: Path) -> None:
    proxy = Proxy(database_url=relay.url, directory=tmp_path, SETTLE_WAIT="0.2").wait_ready()
    with Admin(proxy.url) as admin, set_scene(proxy, admin, db) as scene:
        gate = scene.upstream.hold()
        scene.upstream.answer(json={"error": {"message": SECRET}, "id": SECRET}, status=400, headers={"x-debug": SECRET}, before=gate)
        asked = scene.chat(user=scene.key, metadata={scene.key: SECRET})
        with ThreadPoolExecutor(1) as elsewhere:
            call = elsewhere.submit(scene.post, asked, headers={"User-Agent": scene.key, "X-Title": scene.key})
            wait_until(lambda: scene.upstream.requests, what="the call is under way")
            relay.refuse()
            gate.open()
            assert call.result(30).status_code == 400

        assert list(proxy.data.rglob("*.spool"))
        assert not [text for text in spool(scene) if SECRET in text or scene.key in text]
        relay.resume()
        wait_until(scene.rows, what="a row")
        assert found(scene, SECRET, scene.key) == []
    assert proxy.stop() == 0
