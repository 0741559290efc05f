"""The database hangs: connections stay open and nothing comes back. Nobody waits for it longer than the settings say, and what
it did in the meantime, or does when it wakes up, changes nothing."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.faults.conftest import Tally
from tests.faults.test_database_away import assert_nobody_was_buried, is_ready, replicas, spooled, streams, wait_spools_empty
from tests.harness import scene as scenes
from tests.harness.admin import Admin
from tests.harness.books import wait_until
from tests.harness.database_relay import DatabaseRelay
from tests.harness.fault_books import Sampler, assert_books, compare
from tests.harness.load import Load
from tests.harness.postgres import Database

WAIT = 1.0
"""`ADMIT_WAIT` and `SETTLE_WAIT`."""
SLACK = 1.0
SHUTDOWN_WAIT = 3
"""Seconds, in which a call that has come to its end waits for the database and then for a disk that others are writing to."""
SETTINGS = {"LEASE": "1.5", "ADMIT_WAIT": str(WAIT), "SETTLE_WAIT": str(WAIT)}
STOPPING = SETTINGS | {"SETTLE_WAIT": "0.4", "SHUTDOWN_WAIT": str(SHUTDOWN_WAIT)}
STATEMENT_TIMEOUT = 5
"""Seconds after which the ledger gives a statement up: see `app/database.py`."""


@pytest.fixture(scope="module")
def relay(db: Database) -> Iterator[DatabaseRelay]:
    with DatabaseRelay(db.url) as between:
        yield between


@pytest.fixture
def hanging(relay: DatabaseRelay) -> Iterator[Callable[[], float]]:
    """Makes it hang, and returns when that was."""

    def hang() -> float:
        relay.black_hole()
        return time.monotonic()

    yield hang
    relay.pass_all()


@pytest.mark.timeout(900)
def test_nobody_waits_longer_than_the_settings_say(
    relay: DatabaseRelay,
    hanging: Callable[[], float],
    db: Database,
    tmp_path: Path,
    scale: Callable[..., int],
    tally: Callable[..., Tally],
) -> None:
    hangs = tally("database hangs", "hangs", scale(full=10, short=1))
    with ExitStack() as stack:
        (proxy,) = stack.enter_context(replicas(relay.url, tmp_path, 1, **SETTINGS))
        admin = stack.enter_context(Admin(proxy.url))
        loaded, under_way = (stack.enter_context(scenes.scene(proxy, admin, db)) for _ in range(2))
        stack.enter_context(Sampler(db.url))
        load = stack.enter_context(Load(proxy.url, key=loaded.key, model=loaded.model))
        seen = []
        while not hangs.is_complete:
            stranger = scenes.scene(proxy, admin, db)  # whose key nobody has asked for yet
            with streams(under_way, [proxy.url] * 4) as running, stranger as unknown, ThreadPoolExecutor(8) as clients:
                wait_until(lambda before=load.successes: load.successes > before + 5, what="calls succeed")
                began = hanging()
                ends = [clients.submit(stream.finish) for stream in running[:2]]
                new = [clients.submit(timed, unknown.post, unknown.chat()) for _ in range(3)]
                unmet = clients.submit(timed, under_way.post, under_way.chat() | {"model": "unheard of"})
                assert not is_ready(proxy)
                seen += [end.result(30) for end in ends]
                for took, answer in [one.result(30) for one in new]:
                    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "database_unavailable")
                    assert took < WAIT + SLACK
                assert unmet.result(30)[0] < WAIT + SLACK
                # half of the hangs outlast the statements that they met, whose work is done late or not at all
                time.sleep(max(0, began + (2 + STATEMENT_TIMEOUT if hangs.reached % 2 else 3) - time.monotonic()))
                ended = time.monotonic()
                longest = max(one.ended - one.started for one in list(load.seen) if one.ended > began)
                assert longest < WAIT + SLACK, "including calls that were under way when it began"
                refused = [one for one in list(load.seen) if one.started > began and one.ended < ended]
                assert refused
                assert {one.status for one in refused} == {503}
                assert all(one.is_success and one.ended - began < WAIT + SLACK for one in seen[-2:])
                assert all(str(one.request_id).encode() in spooled(tmp_path) for one in seen[-2:])

                relay.pass_all()
                successes = load.successes
                wait_until(lambda before=successes: load.successes > before + 5, what="calls succeed again", within=20)
                wait_until(lambda: is_ready(proxy), what="it is ready again", within=20)
                seen += [stream.finish() for stream in running[2:]]
                assert all(one.is_success for one in seen[-2:])
            wait_spools_empty(tmp_path)
            hangs.add()
        load.stop()

        assert [one for one in load.seen if not (one.is_success or one.status == 503)] == []
        assert_books(db, at_rest_within=20)
        assert_nobody_was_buried(db)
        compare(load.seen, loaded.rows(), loaded.upstream.ledger)
        compare(seen, [row for row in under_way.rows() if row["end_reason"] != "refused"], under_way.upstream.ledger)
        assert {row["usage_source"] for row in loaded.rows()} == {"provider"}


def timed(call: Callable[..., httpx.Response], *arguments: object) -> tuple[float, httpx.Response]:
    asked = time.monotonic()
    answer = call(*arguments)
    return time.monotonic() - asked, answer


@pytest.mark.timeout(600)
def test_a_process_stops_in_time_while_the_database_hangs(
    relay: DatabaseRelay,
    hanging: Callable[[], float],
    db: Database,
    tmp_path: Path,
    scale: Callable[..., int],
    tally: Callable[..., Tally],
) -> None:
    stops = tally("SIGTERM while the database hangs", "stops", scale(full=10, short=1))
    while not stops.is_complete:
        place = tmp_path / str(stops.reached)
        with ExitStack() as stack:
            (proxy,) = stack.enter_context(replicas(relay.url, place, 1, **STOPPING))
            admin = stack.enter_context(Admin(proxy.url))
            loaded, under_way = (stack.enter_context(scenes.scene(proxy, admin, db)) for _ in range(2))
            load = stack.enter_context(Load(proxy.url, key=loaded.key, model=loaded.model))
            finishing, cut = (stack.enter_context(streams(under_way, [proxy.url] * 2)) for _ in range(2))
            hanging()
            time.sleep(0.5 * (stops.reached % 4))
            proxy.process.terminate()
            for stream in finishing:
                stream.gate.open()
            seen = [stream.finish() for stream in finishing]
            # its calls have SHUTDOWN_WAIT, and so has the ledger after them
            assert proxy.stop(within=2 * SHUTDOWN_WAIT + 6) == 0
            seen += [stream.finish() for stream in cut]
            load.stop()

            relay.pass_all()
            stack.enter_context(replicas(relay.url, place, 1, **STOPPING))
            wait_spools_empty(place)
            assert_books(db, at_rest_within=15)
            assert [one.is_success for one in seen] == [True, True, False, False]
            ends = {str(row["request_id"]): row["end_reason"] for row in under_way.rows()}
            assert [ends[str(one.request_id)] for one in seen] == ["completed"] * 2 + ["interrupted"] * 2
            compare(seen, under_way.rows(), under_way.upstream.ledger)
            compare(load.seen, loaded.rows(), loaded.upstream.ledger)
        stops.add()
