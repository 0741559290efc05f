"""Each fault that operators must hear of makes its alert fire: what a real proxy exports before and after it goes, as Prometheus
would have scraped it, through the rules of `deploy/prometheus`."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from app.ledger.segment import OPENING, framed
from tests.faults.test_database_away import spooled, streams, wait_spools_empty
from tests.faults.test_paused import paused
from tests.harness.books import wait_until
from tests.harness.database_relay import DatabaseRelay
from tests.harness.dying import kill
from tests.harness.load import Load
from tests.harness.metrics import Scraped, assert_fires, promtool
from tests.harness.postgres import Database
from tests.harness.proxy import Proxy
from tests.harness.scene import Scene

METRICS_TOKEN = "metrics-token-of-the-tests"
SPOOL_BYTES = 1 << 20
SETTINGS = {
    "LEASE": "4",
    "SETTLE_WAIT": "0.5",
    "METRICS_TOKEN": METRICS_TOKEN,
    "BREAKER_PAUSE": "60",
    "LOG_CALLS": "false",
    "DATABASE_POOL": "2",
    "SPOOL_MAX_BYTES": str(SPOOL_BYTES),
}
CROWD = 220
"""Calls at once whose rows, with all the labels that a client may give them, are more than the spool may hold."""
LABELS = {f"{number:02}".ljust(64, "n"): "v" * 200 for number in range(16)}
LONG = 1.4
"""Seconds for which the database hangs: a call waits for more than one of them, and no lease ends meanwhile."""
USED = "billing_proxy_database_pool_used_connections"


@pytest.fixture(scope="module", autouse=True)
def _promtool() -> None:
    """Without it nothing here can be told."""
    promtool("--version", directory=Path.cwd())


@pytest.fixture(scope="module")
def relay(db: Database) -> Iterator[DatabaseRelay]:
    with DatabaseRelay(db.url) as between:
        yield between


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("alerts")


@pytest.fixture(scope="module")
def proxy(relay: DatabaseRelay, place: Path) -> Iterator[Proxy]:
    started = Proxy(database_url=relay.url, directory=place, **SETTINGS).wait_ready()
    yield started
    assert '"event":"call"' not in started.output()
    assert started.stop() == 0, started.output()


def scraped(proxy: Proxy) -> Scraped:
    return Scraped.of(proxy.url, token=METRICS_TOKEN)


def test_the_token_of_metrics_opens_nothing_else(proxy: Proxy) -> None:
    held = {"Authorization": f"Bearer {METRICS_TOKEN}"}
    assert [httpx.get(f"{proxy.url}{path}", headers=held, trust_env=False).status_code for path in ("/admin/users", "/logs")] == [401, 401]
    assert scraped(proxy).sum("billing_proxy_database_up") == 1
    assert httpx.get(f"{proxy.url}/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}x"}, trust_env=False).status_code == 401


def name_of(scene: Scene) -> str:
    return str(next(one["name"] for one in scene.admin.listed("/admin/upstreams") if one["id"] == scene.upstream_id))


def test_a_database_that_is_away_and_a_spool_that_grows(proxy: Proxy, relay: DatabaseRelay, place: Path, scene: Scene) -> None:
    before = scraped(proxy)
    with streams(scene, [proxy.url]) as (stream,):
        relay.refuse()
        try:
            assert stream.finish().is_success
            assert spooled(place)
            wait_until(lambda: scraped(proxy).sum("billing_proxy_database_up") == 0, what="it is known")
            after = scraped(proxy)
        finally:
            relay.resume()

    assert after.sum("billing_proxy_spool_records") == 1
    assert after.sum("billing_proxy_spool_bytes") > 100
    assert after.sum("billing_proxy_spool_oldest_seconds") > 0
    assert_fires("DatabaseAway", before=before, after=after, severity="critical")
    assert_fires("SpoolGrowing", before=before, after=after)
    wait_spools_empty(place)
    wait_until(lambda: scraped(proxy).sum("billing_proxy_spool_records") == 0, what="it is empty")
    wait_until(lambda: scraped(proxy).sum("billing_proxy_database_up") == 1, what="the database is back")
    assert scene.row()["end_reason"] == "completed"
    assert scraped(proxy).sum("billing_proxy_calls_total", model=scene.model) == 1


def test_an_upstream_that_is_down(proxy: Proxy, scene: Scene) -> None:
    before, name = scraped(proxy), name_of(scene)
    scene.upstream.refuse()
    for _ in range(5):
        assert scene.post(scene.chat()).status_code == 502
    after = scraped(proxy)
    scene.upstream.listen()

    assert_fires("UpstreamDown", before=before, after=after, upstream=name, severity="critical")


def test_an_upstream_that_refuses_its_secret(proxy: Proxy, scene: Scene) -> None:
    before, name = scraped(proxy), name_of(scene)
    scene.upstream.answer(json={"error": {"message": "revoked"}}, status=401)
    assert scene.post(scene.chat()).status_code == 502

    assert_fires("UpstreamSecretRefused", before=before, after=scraped(proxy), upstream=name)


def test_a_model_without_a_price(proxy: Proxy, scene: Scene) -> None:
    before = scraped(proxy)
    scene.admin.ask("PATCH", f"/admin/upstreams/{scene.upstream_id}", json={"models": [scene.model, f"{scene.model}-free"]})
    assert scene.post(scene.chat() | {"model": f"{scene.model}-free"}).json()["error"]["code"] == "model_not_priced"

    assert_fires("UnpricedModelAskedFor", before=before, after=scraped(proxy))


def test_upstreams_of_which_some_calls_fail(proxy: Proxy, scene: Scene) -> None:
    def call(times: int) -> Scraped:
        for _ in range(times):
            scene.upstream.answer(json={"error": {"message": "overloaded"}}, status=500)
            assert [scene.post(scene.chat()).status_code for _ in range(3)] == [500, 200, 200]
        return scraped(proxy)

    before, during, after = scraped(proxy), call(1), call(3)

    assert_fires("UpstreamCallsFail", before=before, during=during, after=after, upstream=name_of(scene))


def test_an_upstream_that_reports_no_usage(proxy: Proxy, scene: Scene) -> None:
    def call(times: int) -> Scraped:
        for _ in range(times):
            scene.upstream.answer(json={"choices": [{"index": 0, "message": {"role": "assistant", "content": "red"}}]})
            assert scene.post(scene.chat()).status_code == 200
        return scraped(proxy)

    before, during, after = scraped(proxy), call(1), call(3)

    assert_fires("UsageEstimated", before=before, during=during, after=after, upstream=name_of(scene))


def test_a_cost_beyond_what_an_account_has(proxy: Proxy, new_scene: Callable[..., Scene]) -> None:
    scene = new_scene(credit="0.001")
    scene.admin.ask("PUT", f"/admin/models/{scene.model}", json={"context_tokens": 200})
    before = scraped(proxy)
    scene.upstream.answer(json={"choices": [{"message": {"content": "hi"}}], "usage": {"prompt_tokens": 1000, "completion_tokens": 1000}})
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]}
    assert scene.post(scene.chat(max_tokens=5) | {"messages": [image]}).status_code == 200

    assert_fires("CostsWrittenOff", before=before, after=scraped(proxy))


def test_requests_that_keep_all_connections(proxy: Proxy, db: Database, scene: Scene) -> None:
    before = scraped(proxy)
    with ThreadPoolExecutor(2) as operators:
        db.execute("BEGIN")
        try:
            db.execute("LOCK TABLE aigcspace.account IN ACCESS EXCLUSIVE MODE")
            waiting = [operators.submit(scene.admin.user, scene.user) for _ in range(2)]
            wait_until(lambda: scraped(proxy).sum(USED, pool="operators") == 2, what="both wait for the lock")
            after = scraped(proxy)
        finally:
            db.execute("ROLLBACK")
        assert [one.result(20)["id"] for one in waiting] == [scene.user] * 2

    assert_fires("PoolExhausted", before=before, after=after, pool="operators")


def test_an_event_loop_that_stands_still(proxy: Proxy) -> None:
    def late() -> float:
        lag = scraped(proxy)
        name = "billing_proxy_event_loop_lag_seconds"
        return lag.sum(f"{name}_count") - lag.sum(f"{name}_bucket", le="0.25")

    before, already = scraped(proxy), late()
    during = scraped(proxy)
    with paused(proxy):
        stopped = time.monotonic()
        wait_until(lambda: time.monotonic() > stopped + 0.7)
    wait_until(lambda: late() > already, what="its timer has fired, late")

    assert_fires("EventLoopLate", before=before, during=during, after=scraped(proxy))


def test_a_spool_that_cannot_be_written_while_it_is_needed(proxy: Proxy, relay: DatabaseRelay, place: Path, scene: Scene) -> None:
    wait_spools_empty(place)
    before = scraped(proxy)
    with streams(scene, [proxy.url]) as (stream,), no_directory(proxy.data / "spool"):
        relay.refuse()
        try:
            assert stream.finish().is_success
            after = scraped(proxy)
        finally:
            relay.resume()

    assert_fires("SpoolFailing", before=before, after=after)
    assert_fires("LastByteBeforeRow", before=before, after=after)
    wait_until(lambda: scraped(proxy).sum("billing_proxy_spool_failing") == 0, what="it can be written again")
    assert scene.row()["end_reason"] == "completed"


@contextmanager
def no_directory(path: Path) -> Iterator[None]:
    """A file in its place, which keeps root from writing there too."""
    aside = path.with_name("aside")
    path.rename(aside)
    path.touch()
    try:
        yield
    finally:
        path.unlink()
        aside.rename(path)


def test_a_database_that_hangs(proxy: Proxy, relay: DatabaseRelay, scene: Scene) -> None:
    before = during = scraped(proxy)
    with ThreadPoolExecutor(1) as client:
        relay.black_hole()
        try:
            began = time.monotonic()
            answer = client.submit(scene.post, scene.chat())
            wait_until(lambda: time.monotonic() > began + LONG)
        finally:
            relay.pass_all()
        assert answer.result(20).status_code == 200
    after = scraped(proxy)

    assert_fires("OverheadHigh", before=before, during=during, after=after)


def test_a_database_that_hangs_while_many_calls_end(proxy: Proxy, relay: DatabaseRelay, place: Path, scene: Scene) -> None:
    """They wait for their rows, and the spool fills until nobody is let in."""
    gate = scene.upstream.hold()
    before = scraped(proxy)
    with Load(proxy.url, key=scene.key, model=scene.model, in_flight=CROWD, calls=CROWD, streams=0, metadata=LABELS) as crowd:
        wait_until(lambda: len(scene.upstream.requests) == CROWD, what="all are at the upstream")
        relay.black_hole()
        try:
            gate.open()
            wait_until(lambda: scraped(proxy).sum("billing_proxy_spool_bytes") > SPOOL_BYTES, what="the spool is full")
            during = scraped(proxy)
        finally:
            relay.pass_all()
        assert [one for one in crowd.wait(20) if not one.is_success] == []
    wait_spools_empty(place)

    assert_fires("SettlementBehind", before=before, after=during)
    assert_fires("SpoolNearlyFull", before=before, after=during)
    assert_fires("BillingProxyTakesNoCalls", before=before, after=during)
    assert_fires("CommitsSlow", before=before, during=during, after=scraped(proxy), step="settle")


def test_a_process_that_dies_with_an_old_call(proxy: Proxy, db: Database, tmp_path: Path, scene: Scene) -> None:
    """The call is as old as the database says. The process has found two segments: of another version, and with a record that is none."""
    spool = tmp_path / "spool"
    spool.mkdir()
    (spool / "0.spool").write_bytes(OPENING[:-1] + b"\x02" + framed(b"1"))
    (spool / "1.spool").write_bytes(OPENING + framed(b"{}"))
    victim = Proxy(database_url=db.url, directory=tmp_path, DATA_DIR=str(tmp_path), **SETTINGS | {"LEASE": "1"}).wait_ready()
    before = scraped(proxy)
    with streams(scene, [victim.url]):
        db.execute("UPDATE aigcspace.call_hold SET created_at = created_at - interval '3 hours' WHERE user_id = $1", scene.user)
        wait_until(lambda: scraped(victim).sum("billing_proxy_spool_left_segments") == 2, what="both segments are left")
        alive = scraped(victim)
        kill(victim)
        gone = Scraped.tried(victim.url, token=METRICS_TOKEN)
    wait_until(scene.rows, what="the orphan's row")
    after = scraped(proxy)

    assert_fires("SpoolLeft", before=before, after=alive)
    assert_fires("HoldsOld", before=before, after=alive)
    assert_fires("BillingProxyGone", before=alive, after=gone)
    assert scene.row()["end_reason"] == "orphaned"
    assert after.sum("billing_proxy_calls_total", model=scene.model, end_reason="orphaned") == 1
    assert_fires("CallsOrphaned", before=before, after=after)
