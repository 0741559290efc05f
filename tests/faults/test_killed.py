"""The proxy is killed, at each named point of a call and at any moment under load: no call is lost, and none is paid twice.

What another process makes of it is what is promised: a call whose outcome was durable when its process died has the row of
that outcome, in the ledger or by replay of the spool. Any other call that was admitted has one that says `orphaned` and costs
nothing, whatever the upstream had answered.
"""

import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import Tally
from tests.harness import scene as scenes
from tests.harness.admin import Admin
from tests.harness.books import charge, wait_until
from tests.harness.dying import POINTS, dying, kill, wait_dead
from tests.harness.fault_books import Sampler, assert_books, compare
from tests.harness.load import Load, Seen
from tests.harness.postgres import Database, Databases
from tests.harness.proxy import Proxy, running
from tests.harness.scale import IS_FULL, scaled
from tests.harness.scene import Scene

FAULT = "SIGKILL of the proxy"
LEASE = "1"
REST = 15.0
"""Seconds in which others find out who has died, and end all of its calls."""
PATIENT = {"LEASE": LEASE, "ADMIT_WAIT": "20"}
"""So that on a busy machine no reservation is given up: what is held has been let through."""

UNHELD = POINTS[:1]
DURABLE = POINTS[POINTS.index("after_settle_committed") :]
WHOLE = POINTS[-1:]
WHOLE_AT_ONCE = (*WHOLE, "after_first_chunk_to_client")
"""Of an answer that comes in one piece, the first to leave is all of it, after its row."""

_ADMITTED = """
    CREATE TABLE public.admitted (request_id uuid PRIMARY KEY, user_id text NOT NULL);
    CREATE FUNCTION public.admit() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN INSERT INTO public.admitted VALUES (new.request_id, new.user_id); RETURN NULL; END';
    CREATE TRIGGER admit AFTER INSERT ON aigcspace.call_hold FOR EACH ROW EXECUTE FUNCTION public.admit();
"""


# What other faults ask too.


def write_down_admissions(db: Database) -> None:
    """From now on, in the transaction of each hold, which calls were ever held. No code of the proxy touches that again."""
    db.execute(_ADMITTED)


def admitted(scene: Scene) -> set[str]:
    found = scene.db.fetch("SELECT request_id FROM public.admitted WHERE user_id = $1", scene.user)
    return {str(call["request_id"]) for call in found}


def assert_true(scene: Scene, seen: Sequence[Seen], *, orphans: bool = True) -> list[dict[str, Any]]:
    """When nothing is held any longer: what `compare` says, each row's charge is the price of its counts, and a row says
    either what the upstream reported or, where `orphans` may be, that nobody knows. Returns the rows."""
    rows = scene.rows()
    compare(seen, rows, scene.upstream.ledger)
    for row in rows:
        if row["end_reason"] == "orphaned":
            assert orphans, row
            assert (row["status"], row["usage_source"], row["charge"], row["bill"]) == ("failed", "none", 0, 0), row
        else:
            assert (row["status"], row["end_reason"], row["usage_source"]) == ("success", "completed", "provider"), row
            assert (row["charge"], row["write_off"]) == (charge(scene.rates, row), 0), row
    return rows


def assert_each_once(scene: Scene, seen: Sequence[Seen]) -> list[dict[str, Any]]:
    """Waits until all is at rest. Then each call that was ever held has one row, and nothing else has. The clients may have
    been refused for a while, or have had no connection."""
    assert_books(scene.db, at_rest_within=REST)
    rows = assert_true(scene, seen)
    assert [one for one in seen if one.status not in (200, 503, None)] == []
    assert {str(row["request_id"]) for row in rows} == admitted(scene)
    assert len([row for row in rows if row["status"] == "success"]) <= len(scene.upstream.requests) <= len(rows)
    return rows


@contextmanager
def ended(proxy: Proxy) -> Iterator[Proxy]:
    """A proxy that is killed at the end if it lives."""
    try:
        yield proxy
    finally:
        if proxy in running:
            kill(proxy)


def each_in_advance(starts: Sequence[Callable[[], Proxy]]) -> Iterator[Proxy]:
    """Proxies that are ready, one by one; the next one starts meanwhile, as that is what takes longest here."""
    with ExitStack() as stack:
        coming = stack.enter_context(ended(starts[0]()))
        for start in [*starts[1:], None]:
            ready = coming.wait_ready()
            if start is not None:
                coming = stack.enter_context(ended(start()))
            yield ready


# The faults.


@pytest.fixture(scope="module")
def proxy(db: Database, proxies: Callable[..., Proxy]) -> Proxy:
    """It survives: it ends the calls of those who die."""
    write_down_admissions(db)
    return proxies(LEASE=LEASE)


@pytest.mark.timeout(scaled(full=400, short=120))
@pytest.mark.parametrize("point", POINTS if IS_FULL else ("before_submit",))
def test_killed_at(point: str, scene: Scene, tmp_path: Path, scale: Callable[..., int], tally: Callable[..., Tally]) -> None:
    """One call at a time, so that it is known what became of each."""
    kills = tally(FAULT, "kills", scale(full=4, short=1))
    deaths = [1 + number // 2 * 2 for number in range(kills.asked)]
    start = partial(dying, point, database_url=scene.db.url, directory=tmp_path, **PATIENT)
    seen: list[Seen] = []
    told: list[str] = []
    for number, victim in enumerate(each_in_advance([partial(start, after=death) for death in deaths])):
        whole_before, are_streams = deaths[number] - 1, (number + POINTS.index(point)) % 2 == 1
        with Load(victim.url, key=scene.key, model=scene.model, in_flight=1, streams=10 * are_streams, pause=0.05) as load:
            dies(victim, load)
        seen += load.seen
        kills.add()

        is_whole = point in (WHOLE if are_streams else WHOLE_AT_ONCE)
        told += ["completed"] * whole_before
        if point not in UNHELD:
            told.append("completed" if is_whole or point in DURABLE else "orphaned")
        rows = assert_each_once(scene, seen)
        assert [row["end_reason"] for row in rows] == told
        assert load.successes == whole_before + is_whole


@pytest.mark.timeout(scaled(full=400, short=120))
@pytest.mark.parametrize("point", POINTS if IS_FULL else ("mid_stream",))
def test_killed_among_others_at(point: str, scene: Scene, tmp_path: Path, scale: Callable[..., int], tally: Callable[..., Tally]) -> None:
    """Other calls are anywhere on their way when one comes to the point."""
    kills = tally(FAULT, "kills", scale(full=4, short=1))
    start = partial(dying, point, database_url=scene.db.url, directory=tmp_path, **PATIENT)
    seen: list[Seen] = []
    with Sampler(scene.db.url):
        for victim in each_in_advance([partial(start, after=after) for after in (20, 3, 7, 50)[: kills.asked]]):
            with Load(victim.url, key=scene.key, model=scene.model, in_flight=8) as load:
                dies(victim, load)
            seen += load.seen
            kills.add()
            assert_each_once(scene, seen)


@pytest.mark.timeout(scaled(full=900, short=120))
def test_killed_under_load(scene: Scene, tmp_path: Path, scale: Callable[..., int], tally: Callable[..., Tally]) -> None:
    """At any moment, while another process on the same database lives."""
    kills = tally(FAULT, "kills", scale(full=54, short=1))
    start = partial(Proxy, database_url=scene.db.url, directory=tmp_path, **PATIENT)
    seen: list[Seen] = []
    with Sampler(scene.db.url):
        for number, victim in enumerate(each_in_advance([start] * kills.asked)):
            seen += load_until_killed(victim, scene, random.Random(number))
            kills.add()
            assert_each_once(scene, seen)


@pytest.mark.timeout(scaled(full=900, short=120))
def test_killed_again_and_again(databases: Databases, tmp_path: Path, scale: Callable[..., int], tally: Callable[..., Tally]) -> None:
    """At any moment, and nobody else lives: whoever is started next on the same data does it all. No last byte waits for the
    ledger for longer than a moment, so that the spool holds many a call that the ledger holds too."""
    kills = tally(FAULT, "kills", scale(full=50, short=1))
    seen: list[Seen] = []
    with databases.fresh() as db, ExitStack() as stack:
        write_down_admissions(db)
        start = partial(Proxy, database_url=db.url, directory=tmp_path, DATA_DIR=str(tmp_path / "data"), SETTLE_WAIT="0.004", **PATIENT)
        heir = stack.enter_context(ended(start())).wait_ready()
        operator = stack.enter_context(Admin(heir.url))
        scene = stack.enter_context(scenes.scene(heir, operator, db))
        stack.enter_context(Sampler(db.url))
        for number in range(kills.asked):
            seen += load_until_killed(heir, scene, random.Random(number))
            kills.add()
            heir = stack.enter_context(ended(start())).wait_ready()
            assert_each_once(scene, seen)
        wait_until(lambda: not list((tmp_path / "data/spool").iterdir()), what="the spool is empty")
        assert heir.stop() == 0


def dies(victim: Proxy, load: Load) -> None:
    """By its own hand."""
    try:
        assert wait_dead(victim) == -signal.SIGKILL
    except subprocess.TimeoutExpired:
        raise AssertionError(f"no call came to its point: {load.seen[-5:]}") from None


def load_until_killed(victim: Proxy, scene: Scene, dice: random.Random) -> list[Seen]:
    """What its clients saw until then."""
    with Load(victim.url, key=scene.key, model=scene.model, in_flight=dice.randint(2, 12)) as load:
        wait_until(lambda: load.successes > 2, what="calls succeed")
        time.sleep(dice.uniform(0, 0.5))
        assert kill(victim) == -signal.SIGKILL
    return load.seen
