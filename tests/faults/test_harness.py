"""The tools of the fault suite do what they say. (A fault that is not what it seems makes every test of it worthless.)"""

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import Tally
from tests.harness import scene as scenes
from tests.harness.admin import Admin
from tests.harness.background import Background
from tests.harness.books import wait_until
from tests.harness.database_relay import DatabaseRelay
from tests.harness.dying import POINTS, dying, kill, wait_dead
from tests.harness.fault_books import Sampler, assert_books, compare
from tests.harness.load import Load
from tests.harness.own_postgres import own_postgres, reconnecting
from tests.harness.postgres import Database
from tests.harness.proxy import Proxy
from tests.harness.scale import IS_FULL
from tests.harness.scene import Scene

RESERVE, SETTLE = "aigcspace.reserve(", "aigcspace.settle("
HOLDS = "SELECT count(*) FROM aigcspace.call_hold WHERE user_id = $1"

HELD_OR_ENDED = """
    SELECT (SELECT count(*) FROM aigcspace.call_hold WHERE user_id = $1)
        + (SELECT count(*) FROM aigcspace.api_call_log WHERE user_id = $1)
"""

UNHELD = POINTS[:1]
UNANSWERED = POINTS[: POINTS.index("after_first_chunk_to_client")]
DELIVERED = ("after_first_chunk_to_client", "mid_stream", "after_last_byte")
SETTLED = POINTS[POINTS.index("after_settle_committed") :]


@pytest.fixture(scope="module")
def relay(db: Database) -> Iterator[DatabaseRelay]:
    with DatabaseRelay(db.url) as between:
        yield between


@pytest.fixture(scope="module")
def relayed(relay: DatabaseRelay, db: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    proxy = Proxy(database_url=relay.url, directory=tmp_path_factory.mktemp("relayed"), LEASE="1").wait_ready()
    yield proxy
    relay.pass_all()
    assert_books(db, at_rest_within=20)  # while it lives, it ends the calls of those who died
    assert proxy.stop() == 0


@pytest.fixture(scope="module")
def admin(relayed: Proxy) -> Iterator[Admin]:
    with Admin(relayed.url) as operator:
        yield operator


@pytest.fixture
def at_relay(relay: DatabaseRelay, relayed: Proxy, admin: Admin, db: Database) -> Iterator[Scene]:
    with scenes.scene(relayed, admin, db) as scene:
        yield scene
        relay.pass_all()


def test_a_lost_answer_to_a_settlement_leaves_one_row(at_relay: Scene, relay: DatabaseRelay) -> None:
    dropped, asked = relay.dropped_replies, relay.count(SETTLE)
    relay.drop_reply(containing=SETTLE)

    answer = at_relay.post(at_relay.chat())

    assert answer.status_code == 200
    assert at_relay.row()["status"] == "success"
    wait_until(lambda: relay.count(SETTLE) == asked + 2, what="it is settled again")
    assert relay.dropped_replies == dropped + 1
    assert_books(at_relay.db, at_rest_within=20)
    at_relay.row()


def test_a_lost_answer_to_a_reservation_refuses_the_call(at_relay: Scene, relay: DatabaseRelay) -> None:
    relay.drop_reply(containing=RESERVE)

    answer = at_relay.post(at_relay.chat())

    assert answer.status_code == 503
    assert at_relay.upstream.requests == []
    wait_until(lambda: at_relay.db.value(HOLDS, at_relay.user) == 0, what="the hold is voided")
    assert at_relay.rows() == []


def test_a_lost_request_does_nothing(at_relay: Scene, relay: DatabaseRelay) -> None:
    dropped = relay.dropped_requests
    relay.drop_request(containing=RESERVE)

    answer = at_relay.post(at_relay.chat())

    assert (answer.status_code, relay.dropped_requests) == (503, dropped + 1)
    assert at_relay.db.value(HOLDS, at_relay.user) == 0


def test_a_black_hole_keeps_what_it_is_sent(at_relay: Scene, relay: DatabaseRelay) -> None:
    gate = at_relay.upstream.hold()
    with Load(at_relay.proxy.url, key=at_relay.key, model=at_relay.model, in_flight=1, calls=1) as load:
        wait_until(lambda: at_relay.upstream.requests, what="the call is held and forwarded")
        relay.black_hole()
        gate.open()
        seen = load.wait()

        assert seen[0].is_success
        assert at_relay.rows() == []
        relay.pass_all()

    assert at_relay.row()["status"] == "success"
    assert_books(at_relay.db, at_rest_within=20)


def test_a_relay_that_refuses_is_a_server_that_is_stopped(at_relay: Scene, relay: DatabaseRelay) -> None:
    relay.refuse()
    assert relay.open == 0
    assert at_relay.post(at_relay.chat()).status_code == 503

    relay.resume()
    wait_until(lambda: at_relay.post(at_relay.chat()).status_code == 200, what="calls are taken again")


def test_a_rolled_back_transaction_is_not_taken_for_a_commit(background: Background, relay: DatabaseRelay, db: Database) -> None:
    relay.drop_reply(containing="'marked'")
    dropped = relay.dropped_replies
    with reconnecting(background, relay.url) as through:
        with pytest.raises(Exception, match="division by zero"):
            through.execute("SELECT 'marked', 1 / 0")
        through.execute("BEGIN")
        assert through.value("SELECT 'marked'") == "marked"
        through.execute("ROLLBACK")
        through.execute("BEGIN")
        assert through.value("SELECT 'marked'") == "marked"
        assert relay.dropped_replies == dropped
        with pytest.raises(Exception, match="connection"):
            through.execute("COMMIT")
        assert relay.dropped_replies == dropped + 1


def test_a_relay_goes_to_a_server_on_tcp_too(background: Background, relay: DatabaseRelay) -> None:
    with DatabaseRelay(relay.url) as far, reconnecting(background, far.url) as through:
        far.drop_request(containing="'never'")
        assert through.value("SELECT 'once' || $1", "!") == "once!"
        with pytest.raises(Exception, match="connection"):
            through.execute("SELECT 'never'")
        far.pass_all()
        assert through.value("SELECT 'again'") == "again"
        assert (far.connections, far.dropped_requests, relay.count("'never'")) == (2, 1, 0)


def test_load_books_and_upstream_agree(at_relay: Scene, relay: DatabaseRelay) -> None:
    with Sampler(at_relay.db.url) as sampler:
        seen = Load(at_relay.proxy.url, key=at_relay.key, model=at_relay.model, calls=40).run()

    assert [one.error for one in seen if not one.is_success] == []
    assert len({one.request_id for one in seen}) == 40
    assert_books(at_relay.db, at_rest_within=20)
    compare(seen, at_relay.rows(), at_relay.upstream.ledger)
    assert sampler.lowest is not None
    with pytest.raises(AssertionError):
        compare(seen, at_relay.rows()[1:], at_relay.upstream.ledger)
    with pytest.raises(AssertionError):
        compare(seen, at_relay.rows(), at_relay.upstream.ledger[1:])


@pytest.mark.parametrize("point", POINTS if IS_FULL else POINTS[:1] + POINTS[-1:])
def test_the_proxy_dies_at(point: str, at_relay: Scene, tmp_path: Path, tally: Callable[..., Tally]) -> None:
    kills = tally("self-test: SIGKILL at named points", "kills", 1)
    proxy = dying(point, database_url=at_relay.db.url, directory=tmp_path, LEASE="1").wait_ready()
    at_relay.known_to(proxy)
    with Load(proxy.url, key=at_relay.key, model=at_relay.model, in_flight=1, calls=1, streams=10) as load:
        assert wait_dead(proxy) == -signal.SIGKILL
        seen = load.wait()[0]
    kills.add()

    assert (seen.status == 200) == (point in DELIVERED) or point not in UNANSWERED + DELIVERED
    assert seen.is_whole == (point == "after_last_byte")
    assert len(at_relay.upstream.requests) == (POINTS.index(point) > POINTS.index("before_forward"))
    assert at_relay.db.value(HELD_OR_ENDED, at_relay.user) == (point not in UNHELD)
    if point in SETTLED:
        assert at_relay.row()["status"] == "success"
    assert_books(at_relay.db)


def test_a_server_of_ones_own_survives_being_killed(background: Background, tmp_path: Path) -> None:
    with own_postgres(max_connections="20") as server, reconnecting(background, server.url) as db:
        url = server.url
        with Sampler(server.url) as sampler:
            db.execute("INSERT INTO aigcspace.users (id) VALUES ('u')")
            server.kill()
            assert not server.is_running
            server.start(max_connections="5")
            assert db.value("SELECT id FROM aigcspace.users") == "u"
            server.stop_immediately()
            server.start()
            assert db.fetch("SELECT current_setting('max_connections') AS most, current_setting('fsync') AS fsync") == [
                {"most": "5", "fsync": "on"}
            ]
            samples = sampler.samples
            wait_until(lambda: sampler.samples > samples, what="the sampler is back")
            assert sampler.connects > 1
        assert server.url == url
        assert "automatic recovery in progress" in server.log()


def test_a_load_goes_on_with_the_proxy_that_follows(at_relay: Scene, tmp_path: Path) -> None:
    first, second = (Proxy(database_url=at_relay.db.url, directory=tmp_path, LEASE="1", DATA_DIR=str(tmp_path)) for _ in range(2))
    for proxy in (first.wait_ready(), second.wait_ready()):
        at_relay.known_to(proxy)
    with Load(first.url, key=at_relay.key, model=at_relay.model) as load:
        wait_until(lambda: load.successes > 5, what="calls succeed")
        assert kill(first) == -signal.SIGKILL
        wait_until(lambda: any(seen.status is None for seen in load.seen), what="calls fail")
        load.url, before = second.url, load.successes
        wait_until(lambda: load.successes > before + 5, what="calls succeed again")
    assert_books(at_relay.db, at_rest_within=20)
    compare(load.seen, at_relay.rows(), at_relay.upstream.ledger)
    assert second.stop() == 0
    assert time.monotonic() > load.seen[-1].ended > load.seen[0].started
