"""PostgreSQL is stopped at once, or killed, under load, alone and together with the proxy: what it had committed is there
again, and what it had not is in the proxy's memory or in its spool.

While the proxy lives, every call that went upstream ends with its truth, and a hold whose reservation nobody heard of is
voided. Where the proxy dies too, the next one replays its spool; calls that were still at the upstream are orphans.
"""

import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.faults.conftest import Tally
from tests.faults.test_killed import LEASE, REST, admitted, assert_each_once, assert_true, ended, write_down_admissions
from tests.harness import scene as scenes
from tests.harness.admin import Admin
from tests.harness.background import Background
from tests.harness.books import wait_until
from tests.harness.dying import kill
from tests.harness.fault_books import Sampler, assert_books
from tests.harness.load import Load, Seen
from tests.harness.own_postgres import OwnPostgres, own_postgres, reconnecting
from tests.harness.postgres import Database
from tests.harness.proxy import Proxy
from tests.harness.scale import scaled
from tests.harness.scene import Scene

FAULT = "PostgreSQL killed"
IN_FLIGHT = 6
ENDINGS = (OwnPostgres.stop_immediately, OwnPostgres.kill)
SETTINGS = {"LEASE": LEASE, "SETTLE_WAIT": "0.3"}


@pytest.fixture(scope="module")
def server() -> Iterator[OwnPostgres]:
    with own_postgres() as running:
        yield running


@pytest.fixture(scope="module")
def db(background: Background, server: OwnPostgres) -> Iterator[Database]:
    with reconnecting(background, server.url) as database:
        write_down_admissions(database)
        yield database


@pytest.fixture
def start(server: OwnPostgres, tmp_path: Path) -> Iterator[Callable[[], Proxy]]:
    """Starts a proxy that has what the last one left."""
    with ExitStack() as stack:
        data = str(tmp_path / "data")
        yield lambda: stack.enter_context(ended(Proxy(database_url=server.url, directory=tmp_path, DATA_DIR=data, **SETTINGS))).wait_ready()


@contextmanager
def scene_on(proxy: Proxy, db: Database) -> Iterator[Scene]:
    with Admin(proxy.url) as operator, scenes.scene(proxy, operator, db) as scene, Sampler(db.url):
        yield scene


def load_on(scene: Scene, proxy: Proxy) -> Load:
    return Load(proxy.url, key=scene.key, model=scene.model, in_flight=IN_FLIGHT, pause=0.01)


@pytest.mark.timeout(scaled(full=600, short=120))
def test_alone(
    start: Callable[[], Proxy], server: OwnPostgres, db: Database, scale: Callable[..., int], tally: Callable[..., Tally]
) -> None:
    """The proxy lives: of what had begun nothing is cut off, and of nothing is the truth unknown. Every other time all that
    is in flight ends while the database is away."""
    times = tally(FAULT, "times", scale(full=12, short=1))
    dice = random.Random(1)
    proxy = start()
    with scene_on(proxy, db) as scene:
        with load_on(scene, proxy) as load:
            for number in range(times.asked):
                end = ENDINGS[number // 2 % 2]
                goes_on(load)
                if number % 2:
                    time.sleep(dice.uniform(0, 0.3))
                    end(server)
                else:
                    all_is_told_without(server, end, scene, load)
                time.sleep(dice.uniform(0, 2))
                server.start()
                times.add()
            goes_on(load)
        assert_books(db, at_rest_within=REST)
        rows = assert_true(scene, load.seen, orphans=False)
        told, refused = {str(row["request_id"]) for row in rows}, [seen for seen in load.seen if seen.status == 503]
        assert [seen for seen in load.seen if not seen.is_success and seen.status != 503] == []
        assert len(rows) == len(scene.upstream.requests)
        assert told <= admitted(scene), "a hold that was granted is gone"
        assert len(admitted(scene) - told) <= len(refused)
    assert proxy.stop() == 0


@pytest.mark.timeout(scaled(full=600, short=120))
def test_with_the_proxy(
    start: Callable[[], Proxy],
    server: OwnPostgres,
    db: Database,
    tmp_path: Path,
    scale: Callable[..., int],
    tally: Callable[..., Tally],
) -> None:
    """Every other time all that is in flight ends while the database is away, so that its truth is in the spool alone."""
    times = tally(FAULT, "times", scale(full=13, short=1))
    proxy = start()
    seen: list[Seen] = []
    with scene_on(proxy, db) as scene:
        for number in range(times.asked):
            end = ENDINGS[number // 2 % 2]
            if number % 2:
                seen += both_in_the_middle(scene, proxy, server, end, random.Random(number))
            else:
                seen += both_when_all_is_told(scene, proxy, server, end)
                assert len(spooled(tmp_path)) > 0
            server.start()
            proxy = start()
            wait_until(lambda: not spooled(tmp_path), what="the spool is replayed")
            assert_each_once(scene, seen)
            times.add()
    assert proxy.stop() == 0


def both_when_all_is_told(scene: Scene, proxy: Proxy, server: OwnPostgres, end: Callable[[OwnPostgres], None]) -> list[Seen]:
    """The clients have their last bytes, and the database knows of holds alone."""
    with load_on(scene, proxy) as load:
        goes_on(load)
        all_is_told_without(server, end, scene, load)
        assert kill(proxy) == -signal.SIGKILL
    return load.seen


def both_in_the_middle(
    scene: Scene, proxy: Proxy, server: OwnPostgres, end: Callable[[OwnPostgres], None], dice: random.Random
) -> list[Seen]:
    """One soon after the other."""
    with load_on(scene, proxy) as load:
        goes_on(load)
        time.sleep(dice.uniform(0, 0.3))
        deaths = [lambda: end(server), lambda: kill(proxy)]
        dice.shuffle(deaths)
        deaths[0]()
        time.sleep(dice.choice((0, dice.uniform(0, 1))))
        deaths[1]()
    return load.seen


def all_is_told_without(server: OwnPostgres, end: Callable[[OwnPostgres], None], scene: Scene, load: Load) -> None:
    """The server ends while all calls are at the upstream, and then they have their answers."""
    gate = scene.upstream.hold()
    wait_until(lambda: gate.waiting == IN_FLIGHT, what="all calls are at the upstream")
    end(server)
    before = load.successes
    gate.open()
    wait_until(lambda: load.successes == before + IN_FLIGHT, what="all of them have their answers")


def goes_on(load: Load) -> None:
    before = load.successes
    wait_until(lambda: load.successes > before + IN_FLIGHT, what="calls succeed", within=30)


def spooled(directory: Path) -> list[Path]:
    """Segments with records; the proxy that lives has none when all is settled."""
    return [path for path in (directory / "data/spool").iterdir() if path.stat().st_size]
