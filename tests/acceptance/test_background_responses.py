"""Responses that go on in the background: held until they are final, settled once by whoever learns of it, at what they used."""

import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.conftest import Connect, done
from tests.harness import honest_responses
from tests.harness.answers import Gate, Usage
from tests.harness.books import charge, wait_until
from tests.harness.postgres import Database
from tests.harness.proxy import Proxy, running
from tests.harness.scene import Scene

USAGE = Usage(input=30, output=12, cached=10, reasoning=4)


def begin(scene: Scene, **fields: Any) -> str:
    """A background response that has been answered as queued; returns its id."""
    response_id = f"resp_{scene.model}"
    queued = honest_responses.response({"model": "stand-in"}, "queued") | {"id": response_id, "background": True}
    scene.upstream.answer(json=scene.upstream.kept.put(queued))
    answer = scene.post({"model": scene.model, "input": "think hard about it", "background": True, **fields}, "/v1/responses")
    assert (answer.status_code, answer.json()["status"]) == (200, "queued")
    return response_id


def held(scene: Scene) -> Decimal:
    return Decimal(scene.account()["held"])


def waiting(scene: Scene) -> int:
    return int(scene.db.value("SELECT count(*) FROM aigcspace.background_call WHERE user_id = $1", scene.user))


def assert_settled(scene: Scene, *, usage: Usage = USAGE, **expected: Any) -> dict[str, Any]:
    row = scene.row()
    assert (row["input_tokens"], row["output_tokens"], row["cache_read_tokens"]) == (usage.input, usage.output, usage.cached)
    assert row["charge"] == charge(scene.rates, row) == scene.account()["spent"]
    assert {name: row[name] for name in expected} == expected
    assert held(scene) == 0
    assert waiting(scene) == 0
    return row


async def test_a_client_that_asks_until_it_ends_finds_its_row(scene: Scene, connect: Connect) -> None:
    response_id = begin(scene)
    assert held(scene) > 0
    assert scene.rows() == []
    under_way = await done(connect(scene).responses.retrieve(response_id))
    assert under_way.status == "queued"
    assert held(scene) > 0

    scene.upstream.kept.finish(response_id, usage=USAGE)
    ended = await done(connect(scene).responses.retrieve(response_id))

    assert ended.status == "completed"
    assert len(scene.rows()) == 1  # at once
    row = assert_settled(scene, status="success", usage_source="provider", end_reason="completed", api="responses")
    assert row["latency_ms"] >= 0
    follow = scene.post({"model": scene.model, "input": "go on", "previous_response_id": response_id}, "/v1/responses")
    assert follow.status_code == 200


def test_one_that_nobody_asks_for_is_settled_all_the_same(scene: Scene) -> None:
    response_id = begin(scene)

    scene.upstream.kept.finish(response_id, usage=USAGE)

    assert_settled(scene, status="success", usage_source="provider")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_another_process_settles_what_one_has_begun(db: Database, scene: Scene, tmp_path: Path, how: int) -> None:
    """Long after the lease of the first."""
    first = Proxy(database_url=db.url, directory=tmp_path / "first", LEASE="1").wait_ready()
    scene.known_to(first)
    with httpx.Client(base_url=first.url, headers=scene.http.headers, trust_env=False) as http:
        response_id = begin(Scene(**vars(scene) | {"proxy": first, "http": http}))
    first.process.send_signal(how)
    assert first.process.wait(20) == (0 if how == signal.SIGTERM else -signal.SIGKILL)
    running.remove(first)
    leases = "SELECT count(*) FROM aigcspace.instance WHERE process_id = $1 AND lease_until > clock_timestamp()"
    wait_until(lambda: db.value(leases, first.process.pid) == 0, what="the lease of the first has run out")
    assert held(scene) > 0

    scene.upstream.kept.finish(response_id, usage=USAGE)

    assert_settled(scene, status="success", usage_source="provider")


def test_a_stream_that_its_client_leaves_is_billed_by_its_end(scene: Scene) -> None:
    response_id, gate = f"resp_{scene.model}", Gate()
    under_way = honest_responses.response({"model": "stand-in"}) | {"id": response_id, "background": True}
    events = [
        honest_responses.event("response.created", 0, response=scene.upstream.kept.put(under_way)),
        honest_responses.event("response.output_text.delta", 1, delta="All", item_id="m", output_index=0, content_index=0, logprobs=[]),
        honest_responses.event("response.output_text.delta", 2, delta=" done.", item_id="m", output_index=0, content_index=0, logprobs=[]),
    ]
    scene.upstream.stream(events, pauses={2: gate})
    body = {"model": scene.model, "input": "think", "background": True, "stream": True}
    with scene.http.stream("POST", "/v1/responses", json=body) as answer:
        lines = answer.iter_lines()
        wait_until(lambda: "output_text.delta" in next(lines), what="the first text")
    wait_until(scene.upstream.requests[0].gone.is_set, what="the upstream is told")
    wait_until(
        lambda: scene.db.value("SELECT count(*) FROM aigcspace.background_call WHERE object_id = $1", response_id), what="its deferral"
    )

    scene.upstream.kept.finish(response_id, usage=USAGE)

    assert_settled(scene, status="success", usage_source="provider", is_stream=True)


def test_a_stream_of_an_upstream_that_knows_no_background_bills_what_was_delivered(scene: Scene) -> None:
    gate = Gate()
    created = honest_responses.event("response.created", 0, response=honest_responses.response({"model": "stand-in"}))
    text = honest_responses.event("response.output_text.delta", 1, delta="All", item_id="m", output_index=0, content_index=0, logprobs=[])
    scene.upstream.stream([created, text, text], pauses={2: gate})
    body = {"model": scene.model, "input": "think", "background": True, "stream": True}
    with scene.http.stream("POST", "/v1/responses", json=body) as answer:
        lines = answer.iter_lines()
        wait_until(lambda: "output_text.delta" in next(lines), what="the first text")

    row = scene.row()
    assert (row["end_reason"], row["usage_source"]) == ("client_gone", "estimated")
    assert row["output_tokens"] > 0


@pytest.mark.parametrize(
    ("status", "usage", "expected"),
    [
        ("failed", USAGE, {"status": "failed", "end_reason": "upstream_error", "usage_source": "provider"}),
        ("incomplete", USAGE, {"status": "success", "end_reason": "completed", "usage_source": "provider"}),
        ("cancelled", USAGE, {"status": "success", "end_reason": "cancelled", "usage_source": "provider"}),
    ],
)
def test_however_it_ends(scene: Scene, status: str, usage: Usage, expected: dict[str, Any]) -> None:
    response_id = begin(scene)
    scene.upstream.kept.finish(response_id, status, usage=usage)

    assert scene.http.get(f"/v1/responses/{response_id}").json()["status"] == status

    row = assert_settled(scene, **expected)
    assert (row["error_message"] or "") == ("The model gave up." if status == "failed" else "")


async def test_one_that_is_cancelled_is_billed_by_what_it_has_used(scene: Scene, connect: Connect) -> None:
    response_id = begin(scene)

    cancelled = await done(connect(scene).responses.cancel(response_id))

    assert cancelled.status == "cancelled"
    row = scene.row()
    assert (row["end_reason"], row["usage_source"], row["output_tokens"]) == ("cancelled", "estimated", 0)
    assert row["input_tokens"] > 0
    assert held(scene) == 0


def test_one_that_goes_on_is_not_deleted(scene: Scene) -> None:
    response_id = begin(scene)

    refused = scene.http.delete(f"/v1/responses/{response_id}")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "response_under_way")
    scene.upstream.kept.finish(response_id, usage=USAGE)
    assert scene.http.delete(f"/v1/responses/{response_id}").status_code == 200

    assert_settled(scene, status="success")


def test_all_that_is_asked_of_one_at_the_same_time_leaves_one_row(scene: Scene) -> None:
    """Read, cancelled and deleted while it ends."""
    response_id = begin(scene)
    scene.upstream.kept.finish(response_id, usage=USAGE)
    asked = [("GET", ""), ("POST", "/cancel"), ("DELETE", "")] * 4

    def ask(what: tuple[str, str]) -> int:
        with httpx.Client(base_url=scene.proxy.url, headers=scene.http.headers, trust_env=False, timeout=30) as client:
            return client.request(what[0], f"/v1/responses/{response_id}{what[1]}").status_code

    with ThreadPoolExecutor(len(asked)) as at_once:
        statuses = list(at_once.map(ask, asked))

    assert set(statuses) <= {200, 404, 409}
    assert 200 in statuses
    wait_until(lambda: not waiting(scene), what="its end")
    row = scene.row()
    assert row["charge"] == charge(scene.rates, row) == scene.account()["spent"]
    assert held(scene) == 0


def test_one_that_the_upstream_has_lost_is_given_up(scene: Scene) -> None:
    del scene.upstream.kept.objects[begin(scene)]
    scene.db.execute("UPDATE aigcspace.background_call SET looks = 10 WHERE user_id = $1", scene.user)  # it was looked for often

    row = scene.row()

    assert (row["status"], row["end_reason"], row["usage_source"], row["charge"]) == ("failed", "background_lost", "none", 0)
    assert "404" in row["error_message"]
    assert held(scene) == 0


def test_usage_that_cant_be_true_is_counted_here(scene: Scene) -> None:
    response_id = begin(scene)
    scene.upstream.kept.finish(response_id, usage=Usage(input=-5, output=3))

    scene.http.get(f"/v1/responses/{response_id}")

    row = scene.row()
    assert (row["usage_source"], row["flags"]) == ("estimated", ["usage_unreadable"])
    assert row["output_tokens"] > 0


def test_an_upstream_that_answers_at_once_is_settled_at_once(scene: Scene) -> None:
    answer = scene.post({"model": scene.model, "input": "hello", "background": True}, "/v1/responses")

    assert answer.json()["status"] == "completed"
    assert scene.row()["usage_source"] == "provider"


def test_a_disabled_upstream_is_asked_for_what_it_holds(new_scene: Callable[..., Scene]) -> None:
    scene = new_scene()
    response_id = begin(scene)
    scene.admin.ask("DELETE", f"/admin/upstreams/{scene.upstream_id}")
    scene.upstream.kept.finish(response_id, usage=USAGE)

    assert scene.http.get(f"/v1/responses/{response_id}").status_code == 200

    assert_settled(scene, status="success")
