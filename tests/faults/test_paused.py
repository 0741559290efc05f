"""A process is paused beyond its lease while its calls are in flight, and goes on after others have ended them as orphans:
each call has one row, which its truth amends once, and its client gets every byte.

A pause that is shorter than the lease is not noticed by anybody.
"""

import json
import random
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
import pytest

from tests.faults.conftest import Tally
from tests.faults.test_killed import REST, admitted, assert_true, write_down_admissions
from tests.harness import honest
from tests.harness.answers import Gate, Usage
from tests.harness.books import charge, wait_until
from tests.harness.fault_books import Sampler, assert_books
from tests.harness.load import Load
from tests.harness.postgres import Database
from tests.harness.proxy import Proxy
from tests.harness.scale import scaled
from tests.harness.scene import Scene

LEASE = 2.0
UNNOTICED = 0.5
"""Seconds of a pause that a lease outlasts, also if it was to be renewed just then and the machine is busy."""
SETTINGS = {"LEASE": str(LEASE), "ADMIT_WAIT": "20"}
PATH = "/v1/chat/completions"
BEGUN = 3
"""Pieces of each stream that leave the upstream before it stands still."""

ORPHANED = "SELECT count(*) FROM aigcspace.api_call_log WHERE user_id = $1 AND end_reason = 'orphaned'"
AMENDED = "SELECT count(*) FROM aigcspace.api_call_log WHERE user_id = $1 AND amended_at IS NOT NULL"


@dataclass
class InFlight:
    """A call, and what its client has of its answer so far. `usage`: as the upstream will report it."""

    is_stream: bool
    answer: bytes
    usage: Usage
    received: bytearray = field(default_factory=bytearray)
    request_id: str | None = None
    ended: Future[None] | None = None

    def read(self, url: str, headers: dict[str, str], body: dict[str, object]) -> None:
        with httpx.stream("POST", url, headers=headers, json=body, trust_env=False, timeout=30) as answer:
            answer.raise_for_status()
            self.request_id = answer.headers["X-Request-ID"]
            for piece in answer.iter_raw():
                self.received += piece

    def assert_whole(self) -> None:
        assert self.ended is not None
        self.ended.result(30)
        assert bytes(self.received) == self.answer


class Callers:
    """Clients of one scene, each in a thread."""

    def __init__(self, scene: Scene, pool: ThreadPoolExecutor) -> None:
        self._scene = scene
        self._pool = pool

    def stand_still(self, gate: Gate) -> list[InFlight]:
        """Calls that are at the upstream until the gate opens: streams that have begun, and others of which nothing came.
        There is one more before them, which has ended: a process that was declared dead first needs a new lease."""
        wait_until(lambda: self._scene.post(self._scene.chat()).is_success, what="calls are taken")
        return [self._call(gate, words, is_stream=words % 2 == 0) for words in range(1, 7)]

    def _call(self, gate: Gate, words: int, *, is_stream: bool) -> InFlight:
        """Returns when it is where it has to be; the next one finds its own answer in the script then."""
        upstream = self._scene.upstream
        body = self._scene.chat(" ".join(["word"] * words))
        if is_stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        answer = honest.reply(PATH, json.dumps(body | {"model": "stand-in"}).encode())
        assert answer.usage is not None
        call = InFlight(is_stream, b"".join(answer.pieces), answer.usage)
        if is_stream:
            upstream.stream([*answer.pieces], pauses={BEGUN: gate}, usage=answer.usage)
        else:
            upstream.answer(body=answer.pieces[0], before=gate, usage=answer.usage)
        came, begun = len(upstream.requests), len(b"".join(answer.pieces[:BEGUN])) if is_stream else 0
        headers = {"Authorization": f"Bearer {self._scene.key}"}
        call.ended = reading = self._pool.submit(call.read, self._scene.proxy.url + PATH, headers, body)
        wait_until(lambda: reading.done() or (len(upstream.requests) > came and len(call.received) >= begun), what="a call is in flight")
        assert not reading.done(), reading.exception()
        return call


@pytest.fixture(scope="module")
def proxy(db: Database, proxies: Callable[..., Proxy]) -> Proxy:
    """The one that is paused. The other one does nothing but to find it dead."""
    write_down_admissions(db)
    return proxies(**SETTINGS)


@pytest.fixture(scope="module")
def reaper(proxy: Proxy, proxies: Callable[..., Proxy]) -> Proxy:
    return proxies(**SETTINGS)


@pytest.fixture
def callers(scene: Scene, reaper: Proxy) -> Iterator[Callers]:
    with ThreadPoolExecutor(6, thread_name_prefix="caller") as pool:
        yield Callers(scene, pool)


@contextmanager
def paused(proxy: Proxy) -> Iterator[None]:
    proxy.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        proxy.process.send_signal(signal.SIGCONT)


def assert_told(scene: Scene, calls: list[InFlight], *, amended: bool) -> None:
    """Each has one row with its truth, as soon as its client has the last byte."""
    by_id = {str(row["request_id"]): row for row in scene.rows()}
    for call in calls:
        row = by_id[str(call.request_id)]
        assert (row["status"], row["end_reason"], row["usage_source"]) == ("success", "completed", "provider"), row
        assert (row["input_tokens"], row["output_tokens"]) == (call.usage.input, call.usage.output), row
        assert (row["charge"], row["write_off"], row["is_stream"]) == (charge(scene.rates, row), 0, call.is_stream), row
        assert (row["amended_at"] is not None) == amended, row
        assert row["amended_at"] is None or row["amended_at"] > row["settled_at"], row


@pytest.mark.timeout(scaled(full=900, short=120))
def test_paused_beyond_its_lease(scene: Scene, callers: Callers, scale: Callable[..., int], tally: Callable[..., Tally]) -> None:
    runs = tally("paused beyond its lease", "runs", scale(full=50, short=1))
    calls: list[InFlight] = []
    with Sampler(scene.db.url):
        for number in range(runs.asked):
            gate = Gate()
            now = callers.stand_still(gate)
            begun = [len(call.received) for call in now]
            with paused(scene.proxy):
                wait_until(lambda: scene.db.value(ORPHANED, scene.user) == len(now), what="all are found orphaned")  # noqa: B023
                assert_books(scene.db, at_rest_within=0)
                assert [len(call.received) for call in now] == begun
                if number % 2:  # the answers wait for it when it wakes, or come later
                    gate.open()
            gate.open()
            for call in now:
                call.assert_whole()

            calls += now
            assert_told(scene, now, amended=True)
            assert_books(scene.db, at_rest_within=REST)
            assert len(scene.rows()) == len(scene.upstream.requests) == len(calls) + number + 1
            assert scene.db.value(AMENDED, scene.user) == len(calls)
            runs.add()
        assert_told(scene, calls, amended=True)


@pytest.mark.timeout(scaled(full=300, short=120))
def test_paused_for_less_than_its_lease(scene: Scene, callers: Callers, scale: Callable[..., int], tally: Callable[..., Tally]) -> None:
    runs = tally("paused for less than its lease", "runs", scale(full=20, short=1))
    for _ in range(runs.asked):
        gate = Gate()
        now = callers.stand_still(gate)
        with paused(scene.proxy):
            time.sleep(UNNOTICED)
            gate.open()
        for call in now:
            call.assert_whole()

        assert_told(scene, now, amended=False)
        runs.add()
    assert_books(scene.db, at_rest_within=REST)
    assert scene.db.value(ORPHANED, scene.user) == 0
    assert len(scene.rows()) == len(scene.upstream.requests)


@pytest.mark.timeout(scaled(full=300, short=120))
def test_paused_under_load(scene: Scene, reaper: Proxy, scale: Callable[..., int], tally: Callable[..., Tally]) -> None:
    """At any moment, calls that are being reserved or settled among them. A call whose reservation was answered while nobody
    read it may be refused in the end: it has its orphan's row, or none where its hold was voided, and never went upstream."""
    runs = tally("paused beyond its lease, under load", "runs", scale(full=10, short=1))
    dice = random.Random(7)
    with Sampler(scene.db.url), Load(scene.proxy.url, key=scene.key, model=scene.model, in_flight=8, pause=0.01) as load:
        for _ in range(runs.asked):
            successes = load.successes
            wait_until(lambda: load.successes > successes, what="calls succeed")  # noqa: B023
            time.sleep(dice.uniform(0, 0.3))
            with paused(scene.proxy):
                time.sleep(1.5 * LEASE)
            runs.add()
    assert_books(scene.db, at_rest_within=REST)
    rows = assert_true(scene, load.seen)
    told = {str(row["request_id"]) for row in rows}
    refused = [seen for seen in load.seen if seen.status == 503]
    assert all(seen.is_success or seen.status == 503 for seen in load.seen)
    assert len([row for row in rows if row["status"] == "success"]) == len(scene.upstream.requests)
    assert told <= admitted(scene)
    assert len(admitted(scene)) - len(scene.upstream.requests) <= len(refused)
