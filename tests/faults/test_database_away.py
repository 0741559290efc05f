"""The database is away, for all processes at once and for longer than a lease: who is new is refused at once, who is under way
comes to the end, and nobody who lives is declared dead when it is back."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.faults.conftest import Tally
from tests.harness import scene as scenes
from tests.harness.admin import Admin
from tests.harness.answers import Gate, Usage
from tests.harness.background import Background
from tests.harness.books import wait_until
from tests.harness.database_relay import DatabaseRelay
from tests.harness.fault_books import Sampler, assert_books, compare
from tests.harness.load import Load, Seen
from tests.harness.own_postgres import own_postgres, reconnecting
from tests.harness.postgres import Database
from tests.harness.proxy import Proxy, running
from tests.harness.scale import scaled
from tests.harness.scene import Scene

LEASE = 1.5
SHUTDOWN_WAIT = 3
"""Seconds, in which a call that has come to its end waits for the database and then for a disk that others are writing to."""
SETTINGS = {"LEASE": str(LEASE), "SETTLE_WAIT": "0.5", "SHUTDOWN_WAIT": str(SHUTDOWN_WAIT)}
WORDS = 6
"""That a stream has delivered when it comes to its gate."""
SERVERS = ["refuses", "is stopped"]


@dataclass
class Server:
    """What the proxies take for the database. `db` can be asked while it is away for them, or waits for it."""

    url: str
    db: Database
    leave: Callable[[], None]
    come_back: Callable[[], None]


@pytest.fixture(scope="module", params=SERVERS[: scaled(full=2, short=1)])
def server(request: pytest.FixtureRequest, background: Background) -> Iterator[Server]:
    """One that resets and refuses connections; in the long form also one that is stopped."""
    with ExitStack() as stack:
        if request.param == "refuses":
            db = request.getfixturevalue("db")
            relay = stack.enter_context(DatabaseRelay(db.url))
            yield Server(relay.url, db, relay.refuse, relay.resume)
            relay.pass_all()
        else:
            own = stack.enter_context(own_postgres(max_connections="60"))
            yield Server(own.url, stack.enter_context(reconnecting(background, own.url)), own.stop, own.start)


@contextmanager
def replicas(url: str, place: Path, number: int, **settings: str) -> Iterator[list[Proxy]]:
    """Each with a spool of its own in `place`. They must end with 0, unless the test has ended them itself."""
    started = [Proxy(database_url=url, directory=place, DATA_DIR=str(place / str(at)), **settings) for at in range(number)]
    try:
        yield [proxy.wait_ready() for proxy in started]
    finally:
        codes = [proxy.stop() for proxy in started if proxy in running]
    assert set(codes) <= {0}


def spooled(place: Path) -> bytes:
    """All that stands in the spools there; segments that are replayed meanwhile are gone."""
    found = []
    for path in place.glob("**/*.spool"):
        with suppress(FileNotFoundError):
            found.append(path.read_bytes())
    return b"".join(found)


def wait_spools_empty(place: Path, within: float = 30.0) -> None:
    wait_until(lambda: not list(place.glob("**/*.spool")), what="the spools are empty", within=within)


@dataclass
class Stream:
    """One that is under way: it has delivered `WORDS`, and waits at its gate."""

    load: Load
    gate: Gate

    def finish(self, within: float = 20.0) -> Seen:
        self.gate.open()
        return self.load.wait(within)[0]


@contextmanager
def streams(scene: Scene, urls: Sequence[str], *, key: str | None = None) -> Iterator[list[Stream]]:
    """One at each of the addresses, with counts of its own; `key`: of another user. Those that the test leaves are finished."""
    with ExitStack() as stack:
        made = []
        for at, url in enumerate(urls):
            gate, usage = Gate(), Usage(input=100 + at, output=WORDS + 1 + at)
            last = {"id": "c", "object": "chat.completion.chunk", "choices": [], "usage": usage.chat()}
            scene.upstream.stream([*[chunk(" word")] * WORDS, chunk(" end"), last, "[DONE]"], pauses={WORDS: gate}, usage=usage)
            asked = len(scene.upstream.requests)
            load = Load(url, key=key or scene.key, model=scene.model, in_flight=1, calls=1, streams=10, patience=60)
            stack.enter_context(load)
            stack.callback(gate.open)
            wait_until(lambda asked=asked, load=load: len(scene.upstream.requests) > asked or load.seen, what="the stream is under way")
            assert load.seen == []
            made.append(Stream(load, gate))
        time.sleep(0.1)  # the words are on their way
        yield made


def chunk(text: str) -> dict[str, object]:
    return {"id": "c", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}


def refusals(loads: Sequence[Load], *, after: float, before: float) -> list[Seen]:
    """The calls that began and ended between the two times, which must all have been refused."""
    asked = [one for load in loads for one in list(load.seen) if one.started > after and one.ended < before]
    assert [one for one in asked if one.status != 503] == []
    return asked


def assert_nobody_was_buried(db: Database) -> None:
    """No row was written for a call that was then ended by its own process."""
    assert db.fetch("SELECT * FROM aigcspace.api_call_log WHERE end_reason = 'orphaned' OR amended_at IS NOT NULL") == []


def is_ready(proxy: Proxy) -> bool:
    return httpx.get(f"{proxy.url}/readyz", trust_env=False, timeout=10).status_code == 200


@pytest.mark.timeout(900)
def test_calls_under_way_outlive_an_outage(server: Server, tmp_path: Path, scale: Callable[..., int], tally: Callable[..., Tally]) -> None:
    outages = tally("database away longer than a lease", "outages", scale(full=10, short=1))
    with ExitStack() as stack:
        first, second = stack.enter_context(replicas(server.url, tmp_path, 2, **SETTINGS))
        admin = stack.enter_context(Admin(first.url))
        loaded, under_way = (stack.enter_context(scenes.scene(first, admin, server.db)) for _ in range(2))
        loaded.known_to(second)
        under_way.known_to(second)
        stack.enter_context(Sampler(server.db.url))
        loads = [stack.enter_context(Load(proxy.url, key=loaded.key, model=loaded.model, in_flight=2)) for proxy in (first, second)]
        seen: list[Seen] = []
        while not outages.is_complete:
            with streams(under_way, [first.url, second.url] * 3) as running_streams:
                server.leave()
                left = time.monotonic()
                during, after = running_streams[:3], running_streams[3:]
                seen += [stream.finish() for stream in during]
                assert [one for one in seen if not one.is_success] == []
                text = spooled(tmp_path)
                assert all(str(one.request_id).encode() in text for one in seen[-3:])
                assert not is_ready(first)
                assert not is_ready(second)
                export = admin.http.get("/logs/export")
                assert (export.status_code, export.json()["code"]) == (503, "database_unavailable")
                time.sleep(max(0, left + 1.3 * LEASE - time.monotonic()))
                refused = refusals(loads, after=left, before=time.monotonic())
                assert len(refused) > 10
                assert max(one.ended - one.started for one in refused) < 2

                server.come_back()
                back = time.monotonic()
                wait_until(lambda: is_ready(first) and is_ready(second), what="they are ready again")
                wait_until(lambda: all(load.seen[-1].is_success for load in loads), what="calls succeed")
                time.sleep(max(0, back + 1.5 * LEASE - time.monotonic()))  # who was to be buried is, now
                seen += [stream.finish() for stream in after]
            wait_spools_empty(tmp_path, within=back + 30 - time.monotonic())
            outages.add()
        for load in loads:
            load.stop()

        assert_books(server.db, at_rest_within=20)
        assert_nobody_was_buried(server.db)
        assert len(seen) == len(under_way.rows()) == 6 * outages.reached
        for scene, clients in ((under_way, seen), (loaded, loads[0].seen + loads[1].seen)):
            rows = scene.rows()
            assert {(row["status"], row["end_reason"], row["usage_source"]) for row in rows} == {("success", "completed", "provider")}
            compare(clients, rows, scene.upstream.ledger)


@pytest.mark.timeout(600)
def test_a_process_stopped_meanwhile_leaves_its_calls_to_the_next(
    server: Server, tmp_path: Path, scale: Callable[..., int], tally: Callable[..., Tally]
) -> None:
    stops = tally("SIGTERM while the database is away", "stops", scale(full=5, short=1))
    while not stops.is_complete:
        with ExitStack() as stack:
            place = tmp_path / str(stops.reached)
            (proxy,) = stack.enter_context(replicas(server.url, place, 1, **SETTINGS))
            scene = stack.enter_context(scenes.scene(proxy, stack.enter_context(Admin(proxy.url)), server.db))
            before, meanwhile, never = (stack.enter_context(streams(scene, [proxy.url] * number)) for number in (2, 1, 2))
            server.leave()
            seen = [stream.finish() for stream in before]
            asked = time.monotonic()
            proxy.process.terminate()
            time.sleep(0.3)
            seen += [stream.finish() for stream in meanwhile]
            assert proxy.stop(within=SHUTDOWN_WAIT + 3 - (time.monotonic() - asked)) == 0
            cut = [stream.finish() for stream in never]

            assert all(one.is_success for one in seen)
            assert not any(one.is_whole for one in cut)
            assert all(str(one.request_id).encode() in spooled(place) for one in seen + cut)
            server.come_back()
            stack.enter_context(replicas(server.url, place, 1, **SETTINGS))
            wait_spools_empty(place)
            assert_books(server.db, at_rest_within=20)
            assert_nobody_was_buried(server.db)
            rows = {str(row["request_id"]): row for row in scene.rows()}
            assert len(rows) == 5
            assert {rows[str(one.request_id)]["end_reason"] for one in seen} == {"completed"}
            assert {rows[str(one.request_id)]["end_reason"] for one in cut} == {"interrupted"}
            assert all(rows[str(one.request_id)]["charge"] > 0 for one in seen + cut)
            assert {rows[str(one.request_id)]["output_tokens"] >= WORDS for one in cut} == {True}
            compare(seen + cut, scene.rows(), scene.upstream.ledger)
        stops.add()
