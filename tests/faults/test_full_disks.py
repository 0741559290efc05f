"""A full disk, under the database or under the spool: no new calls are taken, none that was let through is lost, and when there is
room again all goes on by itself."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from tests.faults.conftest import Tally
from tests.faults.test_database_away import assert_nobody_was_buried, is_ready, replicas, spooled, streams, wait_spools_empty
from tests.harness import scene as scenes
from tests.harness.admin import Admin
from tests.harness.background import Background
from tests.harness.books import wait_until
from tests.harness.database_relay import DatabaseRelay
from tests.harness.fault_books import assert_books, compare
from tests.harness.load import Load, Seen
from tests.harness.own_postgres import own_postgres, reconnecting
from tests.harness.postgres import Database
from tests.harness.scene import Scene

SETTINGS = {"LEASE": "2", "ADMIT_WAIT": "1", "SETTLE_WAIT": "1"}
DATABASE_MB, SPOOL_KB = 160, 256


class Disk:
    """A file system of its own. `fill` leaves no byte of it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._ballast = directory / "ballast"

    def fill(self) -> None:
        with self._ballast.open("ab") as ballast, suppress(OSError):
            for size in (1 << 20, 1 << 12, 1):
                with suppress(OSError):
                    while os.write(ballast.fileno(), b"\0" * size) == size:
                        pass

    def make_room(self) -> None:
        self._ballast.unlink()


@contextmanager
def disk(directory: Path, size: str) -> Iterator[Disk]:
    """A small tmpfs, for which one has to be root."""
    directory.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "tmpfs", str(directory)], capture_output=True, text=True, check=False
        )
    except OSError as missing:
        pytest.skip(f"no disk can be made full: {missing}")
    if done.returncode:
        pytest.skip(f"no disk can be made full without the right to mount one: {done.stderr.strip()}")
    try:
        yield Disk(directory)
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def codes_of(seen: list[Seen]) -> set[str]:
    return {httpx.Response(503, content=(one.error or "{}")).json().get("code", "") for one in seen if one.status == 503}


def wait_calls_succeed(load: Load, within: float) -> None:
    wait_until(lambda before=load.successes: load.successes > before + 3, what="calls succeed again", within=within)


def assert_nothing_lost(scene: Scene, seen: list[Seen]) -> None:
    assert [one for one in seen if not (one.is_success or one.status == 503)] == []
    rows = scene.rows()
    assert {str(row["request_id"]) for row in rows} == {one.request_id for one in seen if one.status == 200}
    assert {(row["status"], row["end_reason"], row["usage_source"]) for row in rows} == {("success", "completed", "provider")}
    compare(seen, rows, scene.upstream.ledger)


@pytest.mark.timeout(600)
def test_the_disk_of_the_database_is_full(
    background: Background, tmp_path: Path, scale: Callable[..., int], tally: Callable[..., Tally]
) -> None:
    times = tally("disk of the database full", "times", scale(full=5, short=1))
    with ExitStack() as stack:
        small = stack.enter_context(disk(tmp_path / "disk", f"{DATABASE_MB}m"))
        server = stack.enter_context(own_postgres(directory=small.directory, max_wal_size="48MB", min_wal_size="32MB"))
        (proxy,) = stack.enter_context(replicas(server.url, tmp_path / "proxy", 1, **SETTINGS))
        db = stack.enter_context(reconnecting(background, server.url))
        admin = stack.enter_context(Admin(proxy.url))
        loaded, under_way = (stack.enter_context(scenes.scene(proxy, admin, db)) for _ in range(2))
        load = stack.enter_context(Load(proxy.url, key=loaded.key, model=loaded.model, pause=0.005))
        ended: list[Seen] = []
        while not times.is_complete:
            with streams(under_way, [proxy.url] * 4) as running:
                wait_calls_succeed(load, within=20)
                small.fill()
                wait_until(lambda: load.seen[-1].status == 503, what="admission closes", within=20)
                ended += [stream.finish() for stream in running[:2]]
                time.sleep(1)
                refused = [one for one in load.seen[-50:] if one.status == 503]
                assert codes_of(refused) == {"database_unavailable"}
                assert max(one.ended - one.started for one in refused) < 2

                small.make_room()
                if not server.is_running:  # it couldn't write its log, at which it gives up
                    server.start()
                wait_calls_succeed(load, within=30)
                ended += [stream.finish() for stream in running[2:]]
            wait_spools_empty(tmp_path)
            times.add()
        load.stop()

        assert_books(db, at_rest_within=15)
        assert_nobody_was_buried(db)
        assert len(ended) == len(under_way.rows()) == 4 * times.reached
        assert_nothing_lost(under_way, ended)
        assert_nothing_lost(loaded, load.seen)


@pytest.fixture(scope="module")
def relay(db: Database) -> Iterator[DatabaseRelay]:
    with DatabaseRelay(db.url) as between:
        yield between


@pytest.mark.timeout(600)
def test_the_disk_of_the_spool_is_full(
    relay: DatabaseRelay, db: Database, tmp_path: Path, scale: Callable[..., int], tally: Callable[..., Tally]
) -> None:
    """While it is needed: what stands in it stays, what it could not take waits in memory, and nothing new is let in until it
    can be written, however well the database is."""
    times = tally("disk of the spool full", "times", scale(full=10, short=1))
    with ExitStack() as stack:
        small = stack.enter_context(disk(tmp_path / "0" / "spool", f"{SPOOL_KB}k"))
        (proxy,) = stack.enter_context(replicas(relay.url, tmp_path, 1, **SETTINGS))
        admin = stack.enter_context(Admin(proxy.url))
        loaded, under_way = (stack.enter_context(scenes.scene(proxy, admin, db)) for _ in range(2))
        load = stack.enter_context(Load(proxy.url, key=loaded.key, model=loaded.model))
        ended: list[Seen] = []
        while not times.is_complete:
            with streams(under_way, [proxy.url] * 8) as running:
                wait_calls_succeed(load, within=20)
                relay.refuse()
                before = [stream.finish() for stream in running[:2]]
                small.fill()
                meanwhile = [stream.finish() for stream in running[2:7]]  # more than fits the rest of a page
                text = spooled(tmp_path)
                assert all(str(one.request_id).encode() in text for one in before)
                assert not all(str(one.request_id).encode() in text for one in meanwhile)

                relay.resume()
                wait_until(lambda: len(under_way.rows()) == 8 * times.reached + 7, what="rows of all that has ended", within=30)
                since = time.monotonic()
                wait_until(lambda since=since: [one for one in load.seen if one.started > since], what="calls are refused")
                assert not is_ready(proxy)
                time.sleep(0.5)
                assert codes_of([one for one in load.seen if one.started > since]) == {"spool_unavailable"}
                assert not any(one.is_success for one in load.seen if one.started > since)

                small.make_room()
                wait_until(lambda: is_ready(proxy), what="it is ready again", within=20)
                wait_calls_succeed(load, within=20)
                ended += before + meanwhile + [stream.finish() for stream in running[7:]]
            wait_spools_empty(tmp_path)
            times.add()
        load.stop()

        assert_books(db, at_rest_within=20)
        assert_nobody_was_buried(db)
        assert all(one.is_success for one in ended)
        assert_nothing_lost(under_way, ended)
        assert_nothing_lost(loaded, load.seen)
