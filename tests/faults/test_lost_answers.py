"""The database commits, and its answer is lost: a reservation that nobody knows of is voided, a settlement is done again and
changes nothing."""

from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from tests.faults.conftest import Tally
from tests.harness import scene as scenes
from tests.harness.admin import Admin
from tests.harness.books import wait_until
from tests.harness.database_relay import DatabaseRelay
from tests.harness.fault_books import Sampler, assert_books, compare
from tests.harness.load import Load
from tests.harness.postgres import Database
from tests.harness.proxy import Proxy
from tests.harness.scene import Scene

RESERVE, SETTLE = "aigcspace.reserve(", "aigcspace.settle("
LEASE = 1.0
POOR = Decimal("0.0100")
"""At the most that a call of the load may cost, some 0.002, a handful of calls at once."""


@pytest.fixture(scope="module")
def relay(db: Database) -> Iterator[DatabaseRelay]:
    with DatabaseRelay(db.url) as between:
        yield between


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def proxy(relay: DatabaseRelay, data: Path) -> Iterator[Proxy]:
    started = Proxy(database_url=relay.url, directory=data, DATA_DIR=str(data), LEASE=str(LEASE)).wait_ready()
    yield started
    relay.pass_all()
    assert started.stop() == 0


@pytest.fixture
def scene(proxy: Proxy, admin: Admin, db: Database, relay: DatabaseRelay) -> Iterator[Scene]:
    with scenes.scene(proxy, admin, db) as made:
        yield made
        relay.pass_all()


def lose(relay: DatabaseRelay, tally: Tally, *statements: str, meanwhile: Callable[[], None] = lambda: None) -> None:
    """One answer after the other, of the statements in turn, while a load goes on. The next one of its kind gets through."""
    while not tally.is_complete:
        meanwhile()
        statement, dropped = statements[tally.reached % len(statements)], relay.dropped_replies
        relay.drop_reply(containing=statement)
        wait_until(lambda dropped=dropped: relay.dropped_replies > dropped, what="an answer is lost")
        asked = relay.count(statement)
        wait_until(lambda statement=statement, asked=asked: relay.count(statement) > asked, what="it is asked again")
        tally.add()


def assert_each_call_ended_once(scene: Scene, load: Load, data: Path) -> None:
    """200 and a row, or 503 and none; nothing held, and nothing left in the spool."""
    assert [one for one in load.seen if not (one.is_success or one.status == 503)] == []
    wait_until(lambda: not list(data.glob("spool/*.spool")), what="the spool is empty", within=30)
    assert_books(scene.db, at_rest_within=5 * LEASE)
    rows = scene.rows()
    assert {str(row["request_id"]) for row in rows} == {one.request_id for one in load.seen if one.status == 200}
    assert len(scene.upstream.requests) == len(rows) == load.successes
    assert {(row["status"], row["end_reason"], row["amended_at"]) for row in rows} == {("success", "completed", None)}
    compare(load.seen, rows, scene.upstream.ledger)


@pytest.mark.timeout(600)
def test_lost_answers_to_reservations(
    scene: Scene, relay: DatabaseRelay, data: Path, scale: Callable[..., int], tally: Callable[..., Tally]
) -> None:
    lost = tally("commit's answer lost: reserve", "answers", scale(full=200, short=4))
    with Sampler(scene.db.url), Load(scene.proxy.url, key=scene.key, model=scene.model) as load:
        lose(relay, lost, RESERVE)

    assert sum(one.status == 503 for one in load.seen) >= lost.reached
    assert_each_call_ended_once(scene, load, data)


@pytest.mark.timeout(600)
def test_lost_answers_to_settlements(
    scene: Scene, relay: DatabaseRelay, data: Path, scale: Callable[..., int], tally: Callable[..., Tally]
) -> None:
    lost = tally("commit's answer lost: settle", "answers", scale(full=200, short=4))
    asked = relay.count(SETTLE)
    with Sampler(scene.db.url), Load(scene.proxy.url, key=scene.key, model=scene.model) as load:
        lose(relay, lost, SETTLE)

    assert [one for one in load.seen if not one.is_success] == [], "whoever was let through gets its answer"
    assert relay.count(SETTLE) - asked > lost.reached
    assert_each_call_ended_once(scene, load, data)


@pytest.mark.timeout(600)
def test_what_lost_reservations_hold_is_given_back_to_a_poor_account(
    scene: Scene, relay: DatabaseRelay, data: Path, scale: Callable[..., int], tally: Callable[..., Tally]
) -> None:
    """Others are refused for want of it, meanwhile; nobody spends it twice."""
    lost = tally("commit's answer lost: either, on a poor account", "answers", scale(full=100, short=4))
    scene.admin.add_credit(scene.user, f"-{Decimal(scene.admin.user(scene.user)['available']) - POOR:.4f}")
    with (
        Sampler(scene.db.url) as sampler,
        Load(scene.proxy.url, key=scene.key, model=scene.model, in_flight=6, max_tokens=150) as load,
    ):
        lose(relay, lost, RESERVE, SETTLE, meanwhile=lambda: top_up(scene))

    assert {one.status for one in load.seen} <= {200, 402, 503}
    assert sampler.lowest is not None
    assert sampler.lowest < POOR
    wait_until(lambda: not list(data.glob("spool/*.spool")), what="the spool is empty", within=30)
    assert_books(scene.db, at_rest_within=5 * LEASE)
    compare(load.seen, scene.rows(), scene.upstream.ledger)


def top_up(scene: Scene) -> None:
    if Decimal(scene.admin.user(scene.user)["available"]) < POOR / 2:
        scene.admin.add_credit(scene.user, f"{POOR / 2:.4f}")
