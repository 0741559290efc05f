"""PostgreSQL has fewer connections than the proxies want: who gets none is refused, and what was let through before that
waits for one. A proxy that gets none for longer than a lease is declared dead by the other; it amends those rows afterwards."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import asyncpg
import pytest

from tests.faults.conftest import Tally
from tests.faults.test_database_away import is_ready, replicas, streams, wait_spools_empty
from tests.harness import scene as scenes
from tests.harness.admin import Admin
from tests.harness.background import Background
from tests.harness.books import wait_until
from tests.harness.fault_books import assert_books, compare
from tests.harness.load import Load
from tests.harness.own_postgres import OwnPostgres, own_postgres, reconnecting
from tests.harness.proxy import Proxy

MANY, FEW = {"max_connections": "40", "max_prepared_transactions": "2"}, {"max_connections": "5"}
SETTINGS = {"LEASE": "2", "ADMIT_WAIT": "1", "SETTLE_WAIT": "1"}


@pytest.fixture(scope="module")
def server() -> Iterator[OwnPostgres]:
    with own_postgres(**MANY) as made:
        yield made


def restart(server: OwnPostgres, settings: dict[str, str]) -> None:
    server.stop()
    server.start(**settings)


@contextmanager
def strangers(proxy: Proxy) -> Iterator[Load]:
    """They come with keys that the database has to be asked for, each over another connection if there were one."""
    with Load(proxy.url, key=[f"nobody's-{at}" for at in range(16)], model="any", in_flight=8, pause=0.02) as load:
        yield load
    assert {one.status for one in load.seen} <= {401, 503}


def test_the_first_call_after_a_restart_of_the_database_is_taken(server: OwnPostgres, background: Background, tmp_path: Path) -> None:
    """Though the connections of the pool are those that the server has closed."""
    with ExitStack() as stack:
        (proxy,) = stack.enter_context(replicas(server.url, tmp_path, 1))
        with reconnecting(background, server.url) as db:
            scene = stack.enter_context(scenes.scene(proxy, stack.enter_context(Admin(proxy.url)), db))
            assert scene.post(scene.chat()).status_code == 200
        restart(server, MANY)
        time.sleep(0.2)  # the proxy hears of it as soon as its loop turns

        assert scene.post(scene.chat()).status_code == 200


def is_refused(load: Load, since: float) -> bool:
    return any(one.status == 503 and one.started > since for one in load.seen)


@pytest.mark.timeout(900)
def test_two_proxies_on_five_connections(
    server: OwnPostgres, background: Background, tmp_path: Path, scale: Callable[..., int], tally: Callable[..., Tally]
) -> None:
    shortages = tally("few connections", "shortages", scale(full=8, short=1))
    with ExitStack() as stack:
        first, second = stack.enter_context(replicas(server.url, tmp_path, 2, **SETTINGS))
        with reconnecting(background, server.url) as db:
            admin = stack.enter_context(Admin(first.url))
            loaded, under_way = (stack.enter_context(scenes.scene(first, admin, db)) for _ in range(2))
            loaded.known_to(second)
            under_way.known_to(second)
        ended = []
        loads = [stack.enter_context(Load(proxy.url, key=loaded.key, model=loaded.model, pause=0.01)) for proxy in (first, second)]
        while not shortages.is_complete:
            with streams(under_way, [first.url, second.url] * 2) as running:
                restart(server, FEW)
                began, seen = time.monotonic(), [len(load.seen) for load in loads]
                with strangers(first) as some, strangers(second) as others:
                    ended += [stream.finish() for stream in running]
                    time.sleep(max(0, began + scale(full=5, short=2) - time.monotonic()))
                    crowd = (*loads, some, others)
                    wait_until(lambda: any(is_refused(load, began) for load in crowd), what="somebody gets no connection")  # noqa: B023
                short = [one for load, before in zip(loads, seen, strict=True) for one in load.seen[before:] if one.started > began]
                restart(server, MANY)
            assert [one for one in short if not (one.is_success or one.status == 503)] == []
            assert max(one.ended - one.started for one in short) < 10
            wait_until(lambda: all(one.is_success for load in loads for one in load.seen[-20:]), what="both serve again")
            wait_until(lambda: is_ready(first) and is_ready(second), what="both are ready")
            wait_spools_empty(tmp_path)
            shortages.add()
        for load in loads:
            load.stop()

        with reconnecting(background, server.url) as db:
            assert_books(db, at_rest_within=15)
            assert all(one.is_success for one in ended)
            loaded.db = under_way.db = db
            clients = [one for load in loads for one in load.seen]
            for scene, seen_by in ((under_way, ended), (loaded, clients)):
                assert {(row["status"], row["end_reason"]) for row in scene.rows()} == {("success", "completed")}
                assert len(scene.rows()) == sum(one.status == 200 for one in seen_by)
                compare(seen_by, scene.rows(), scene.upstream.ledger)


def test_a_two_phase_commit_of_the_platforms_goes_through_where_it_notifies_nothing(server: OwnPostgres, background: Background) -> None:
    """Here, as the server's settings are this module's own."""
    restart(server, MANY)
    change = "INSERT INTO aigcspace.upstream (name, base_url) VALUES ('two-phase', 'http://localhost')"
    prepare = "PREPARE TRANSACTION 'platform'"
    with reconnecting(background, server.url) as db:
        with pytest.raises(asyncpg.FeatureNotSupportedError, match="NOTIFY"):
            db.execute(f"BEGIN; {change}; {prepare}")
        db.execute("ROLLBACK")
        version = db.value("SELECT version FROM aigcspace.catalog_version")

        db.execute("BEGIN")
        db.execute(f"SET LOCAL aigcspace.notify = 'off'; {change}; {prepare}")
        db.execute("COMMIT PREPARED 'platform'")

        assert db.value("SELECT version FROM aigcspace.catalog_version") == version + 1
        assert db.value("SELECT count(*) FROM aigcspace.upstream WHERE name = 'two-phase'") == 1
