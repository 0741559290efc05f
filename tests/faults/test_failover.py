"""Three upstreams of one model, up to two of them failing at a time, in every way: whoever is served by a healthy one notices
nothing, nothing is retried after its first byte, and each call has one row and one bill, with all its attempts."""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from tests.faults.conftest import Tally
from tests.faults.test_database_away import chunk
from tests.harness import scene as scenes
from tests.harness.admin import Admin
from tests.harness.answers import Answer, sse
from tests.harness.books import charge, wait_until
from tests.harness.fault_books import assert_books
from tests.harness.load import Load, Seen
from tests.harness.postgres import Database
from tests.harness.proxy import Proxy
from tests.harness.raw_client import ask_and_leave
from tests.harness.scale import scaled
from tests.harness.scene import RATES, Scene
from tests.standin import STREAM, StandIn

CALLS = scaled(full=10_000, short=150)
A_ROUND = scaled(full=100, short=10)
PATIENCE = str(scaled(full=3, short=4))
"""Seconds after which an upstream counts as stalled: healthy ones must never take as long, on a busy machine either."""
EVENT_HEAD = {"content-type": STREAM}


def attempts(row: dict[str, Any]) -> list[dict[str, Any]]:
    return list(json.loads(row["attempts"]))


def error(status: int, **headers: str) -> Answer:
    return Answer(pieces=[b'{"error": {"message": "not now"}}'], status=status, headers=headers)


WAYS: Mapping[str, Callable[[], Answer]] = {
    "reset": lambda: Answer(pieces=[], framing="raw", ending="rst"),
    "stalled": lambda: Answer(pieces=[], framing="raw", ending="stall"),
    "rate": lambda: error(429, **{"retry-after": "1"}),
    "broken": lambda: error(500),
    "overloaded": lambda: error(529),
    "refusing us": lambda: error(401),
    "cut before the first byte": lambda: Answer(pieces=[b""], headers=EVENT_HEAD, framing="chunked", ending="rst"),
    "stalled before the first byte": lambda: Answer(pieces=[b""], headers=EVENT_HEAD, framing="chunked", ending="stall"),
    "cut": lambda: Answer(pieces=[sse(chunk(" red")), sse(chunk(" green"))], headers=EVENT_HEAD, framing="chunked", ending="rst"),
}
REFUSED, CUT = "refused", "cut"
ALL_WAYS = (REFUSED, *WAYS)


@dataclass
class Three:
    """A scene's own upstream, and two more that serve its model."""

    scene: Scene
    upstreams: dict[int, StandIn]

    def fail(self, upstream_id: int, way: str) -> None:
        if way == REFUSED:
            self.upstreams[upstream_id].refuse()
        else:
            self.upstreams[upstream_id].always(WAYS[way]())

    def mend(self, upstream_id: int, way: str) -> None:
        if way == REFUSED:
            self.upstreams[upstream_id].listen()
        else:
            self.upstreams[upstream_id].always(None)

    def health(self, upstream_id: int) -> str:
        return str(self.scene.admin.ask("GET", f"/admin/upstreams/{upstream_id}")["health"])


@pytest.fixture(scope="module")
def proxy(proxies: Callable[..., Proxy]) -> Proxy:
    return proxies(UPSTREAM_RETRIES="1", UPSTREAM_IDLE_TIMEOUT="1.5", BREAKER_PAUSE="0.3")


@pytest.fixture
def three(proxies: Callable[..., Proxy], db: Database) -> Iterator[Three]:
    """Behind a proxy whose breakers try again at once, so that failures are met and not passed by."""
    eager = proxies(UPSTREAM_IDLE_TIMEOUT=PATIENCE, BREAKER_PAUSE="0.02")
    with Admin(eager.url) as admin:
        yield from several(eager, admin, db, priorities=(0, 0, 0))


@pytest.fixture
def ranked(proxy: Proxy, admin: Admin, db: Database) -> Iterator[Three]:
    """Each is tried before the next."""
    yield from several(proxy, admin, db, priorities=(0, 1, 2))


def several(proxy: Proxy, admin: Admin, db: Database, *, priorities: tuple[int, int, int]) -> Iterator[Three]:
    with ExitStack() as stack:
        scene = stack.enter_context(scenes.scene(proxy, admin, db, credit="1000", priority=priorities[0]))
        upstreams = {scene.upstream_id: scene.upstream}
        for priority in priorities[1:]:
            more = stack.enter_context(StandIn())
            made = admin.add_upstream(
                f"{scene.model}-{len(upstreams)}", f"{more.url}/v1", {scene.model: "stand-in"}, api_key="another-secret", priority=priority
            )
            upstreams[made["id"]] = more
        yield Three(scene, upstreams)
        assert_books(db)


def test_every_call_that_a_healthy_upstream_could_serve_is_served_and_billed_once(three: Three, tally: Callable[..., Tally]) -> None:
    served = tally("upstreams fail over", "calls", CALLS)
    chance, seen, sick = random.Random(5), list[Seen](), dict[str, dict[int, str]]()
    for number in range(-(-CALLS // A_ROUND)):
        ways = {
            place: ALL_WAYS[(number + step) % len(ALL_WAYS)] for step, place in enumerate(chance.sample([*three.upstreams], 1 + number % 2))
        }
        for place, way in ways.items():
            three.fail(place, way)
        load = Load(
            three.scene.proxy.url,
            key=three.scene.key,
            model=three.scene.model,
            calls=A_ROUND,
            in_flight=8,
            streams=10 if CUT in ways.values() else 5,
            messages=[{"role": "user", "content": "some words"}],
        )
        seen += (found := load.run())
        sick |= {str(one.request_id): ways for one in found}
        for place, way in ways.items():
            three.mend(place, way)
        served.add(len(found))

    wait_until(lambda: len(three.scene.rows()) >= len(seen), what="a row a call")
    rows = three.scene.rows()
    by_id = {str(row["request_id"]): row for row in rows}
    assert len(rows) == len(by_id) == len(seen) >= CALLS
    for one in seen:
        assert_served_or_cut(one, by_id[str(one.request_id)], sick[str(one.request_id)])
    answered = Counter(row["upstream_id"] for row in rows if row["status"] == "success")
    assert answered == {place: len(upstream.ledger) for place, upstream in three.upstreams.items()}
    failed = Counter(attempt.get("error") or attempt["status"] for row in rows for attempt in attempts(row)[:-1])
    assert {"upstream_unreachable", "upstream_broken", "upstream_timeout", 401, 429, 500, 529} <= failed.keys()


def assert_served_or_cut(one: Seen, row: dict[str, Any], sick: dict[int, str]) -> None:
    *failed, last = attempts(row)
    assert one.status == 200, (row["attempts"], sick)
    assert last["status"] == 200
    assert last["upstream_id"] == row["upstream_id"]
    assert all("error" in attempt or attempt["status"] >= 400 for attempt in failed), "an answer that had begun was left"
    assert {attempt["upstream_id"] for attempt in failed} <= sick.keys(), (row, sick)
    assert row["charge"] == charge(RATES, row) > 0
    if sick.get(row["upstream_id"]) == CUT:
        assert (row["status"], row["end_reason"], row["output_tokens"]) == ("failed", "upstream_broken", 2)
    else:
        assert (row["status"], row["usage_source"]) == ("success", "provider"), (one, row, sick)
        assert row["upstream_id"] not in sick
        assert one.is_success


def test_the_breaker_opens_after_five_failures_and_closes_when_the_upstream_is_back(ranked: Three) -> None:
    best = next(iter(ranked.upstreams))
    ranked.fail(best, "broken")
    for _ in range(5):
        assert ranked.health(best) == "closed"
        assert ranked.scene.post(ranked.scene.chat()).status_code == 200
    assert ranked.health(best) == "open"

    wait_until(lambda: ranked.health(best) == "half_open")
    asked = len(ranked.scene.upstream.requests)
    for _ in range(3):
        assert ranked.scene.post(ranked.scene.chat()).status_code == 200
    assert len(ranked.scene.upstream.requests) == asked + 1, "only one call tries"
    assert ranked.health(best) == "open"

    ranked.mend(best, "broken")
    wait_until(lambda: ranked.health(best) == "half_open")
    assert ranked.scene.post(ranked.scene.chat()).status_code == 200
    assert ranked.health(best) == "closed"
    assert ranked.scene.rows()[-1]["upstream_id"] == best


def test_where_all_breakers_are_open_calls_are_made_all_the_same(ranked: Three) -> None:
    for place in ranked.upstreams:
        ranked.fail(place, "broken")
    for _ in range(6):
        answer = ranked.scene.post(ranked.scene.chat())
        assert (answer.status_code, answer.json()["error"]["message"]) == (500, "not now")
    assert {ranked.health(place) for place in ranked.upstreams} <= {"open", "half_open"}

    for place in ranked.upstreams:
        ranked.mend(place, "broken")
    assert ranked.scene.post(ranked.scene.chat()).status_code == 200


def test_the_row_is_of_the_upstream_that_answered_and_lists_those_that_failed(ranked: Three) -> None:
    first, second, third = ranked.upstreams
    ranked.fail(first, "rate")
    ranked.fail(second, REFUSED)

    assert ranked.scene.post(ranked.scene.chat()).status_code == 200

    row = ranked.scene.row()
    told = [(attempt["upstream_id"], attempt.get("status"), attempt.get("error")) for attempt in attempts(row)]
    assert told == [(first, 429, None), (second, None, "upstream_unreachable"), (third, 200, None)]
    assert (row["upstream_id"], row["http_status"], row["status"]) == (third, 200, "success")
    ranked.mend(second, REFUSED)


def test_a_stream_that_never_begins_gives_way_to_an_upstream_whose_pause_is_over_in_time(ranked: Three) -> None:
    first, second, third = ranked.upstreams
    for place in (first, second):
        ranked.upstreams[place].answer(json={"error": {"message": "slow down"}}, status=429, headers={"Retry-After": "3"})
    assert ranked.scene.post(ranked.scene.chat()).status_code == 200
    ranked.fail(third, "stalled before the first byte")

    answer = ranked.scene.post(ranked.scene.chat(stream=True))

    assert (answer.status_code, answer.content.endswith(b"data: [DONE]\n\n")) == (200, True)
    *failed, last = [attempt["upstream_id"] for attempt in attempts(ranked.scene.rows()[-1])]
    assert set(failed) == {third}
    assert last in (first, second)


def test_the_only_upstream_is_asked_again_when_it_says_so(proxy: Proxy, new_scene: Callable[..., Scene]) -> None:
    scene = new_scene()
    scene.upstream.answer(json={"error": {"message": "slow down"}}, status=429, headers={"Retry-After": "1"})

    assert scene.post(scene.chat()).status_code == 200

    assert [attempt["status"] for attempt in attempts(scene.row())] == [429, 200]
    assert scene.row()["latency_ms"] >= 1000


@pytest.mark.parametrize("after", ["3600", None])
def test_a_rate_that_does_not_fit_the_budget_is_the_clients_to_wait_for(new_scene: Callable[..., Scene], after: str | None) -> None:
    scene = new_scene()
    headers = {"Retry-After": after} if after else {}
    scene.upstream.answer(json={"error": {"message": "slow down"}}, status=429, headers=headers, always=True)

    answer = scene.post(scene.chat())

    assert (answer.status_code, answer.headers.get("retry-after")) == (429, after)
    assert len(scene.upstream.requests) == 1


def test_a_refused_secret_gives_way_to_the_next(new_scene: Callable[..., Scene]) -> None:
    scene = new_scene(api_key="first-secret-of-two-0001", api_keys=["second-secret-of-two-0002"])
    shown = scene.admin.ask("GET", f"/admin/upstreams/{scene.upstream_id}")
    assert shown["api_key_hints"] == ["0001", "0002"]
    scene.upstream.answer(json={"error": {"message": "who?"}}, status=401)

    for _ in range(4):
        assert scene.post(scene.chat()).status_code == 200

    refused, *used = [request.header("authorization") for request in scene.upstream.requests]
    assert len(used) == 4
    assert len(set(used)) == 1
    assert refused not in used


def test_a_departed_client_ends_the_retries(ranked: Three) -> None:
    first, second, _ = ranked.upstreams
    gate = ranked.upstreams[first].hold()
    ranked.upstreams[first].answer(json={"error": {}}, status=500)
    ask_and_leave(ranked.scene, ranked.scene.chat(), until=lambda: ranked.upstreams[first].requests)
    gate.open()

    row = ranked.scene.row()
    assert (row["upstream_id"], len(attempts(row))) == (first, 1)
    assert ranked.upstreams[second].requests == []


def test_a_form_goes_whole_to_the_next_upstream(ranked: Three) -> None:
    first, second, _ = ranked.upstreams
    ranked.fail(first, "broken")
    files = {"file": ("a.wav", b"RIFF" + bytes(200_000), "audio/wav")}

    ranked.scene.http.post("/v1/audio/transcriptions", data={"model": ranked.scene.model}, files=files)

    sent = [ranked.upstreams[place].requests[-1].body for place in (first, second)]
    assert len(sent[0]) > 200_000
    assert sent[0] == sent[1]
