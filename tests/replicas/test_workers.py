"""Several processes on one port: each has a lease, a spool and a listener of its own, and outsiders see one server."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from tests.harness.books import wait_until
from tests.harness.metrics import Scraped
from tests.harness.postgres import Database
from tests.harness.proxy import Proxy
from tests.harness.scene import Scene
from tests.replicas.conftest import NEVER

WORKERS = 3
PROCESSES = "SELECT process_id FROM aigcspace.instance"
HOLDER = "SELECT process_id FROM aigcspace.call_hold hold JOIN aigcspace.instance ON instance.id = hold.instance_id WHERE user_id = $1"


@pytest.fixture(scope="module")
def workers(standing_db: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """They look for changes by notices alone."""
    settings = {**NEVER, "WORKERS": str(WORKERS), "LEASE": "1", "METRICS_ACCESS": "open"}
    started = Proxy(database_url=standing_db.url, directory=tmp_path_factory.mktemp("workers"), **settings).wait_ready()
    children = psutil.Process(started.process.pid).children
    wait_until(lambda: len({child.pid for child in children()} & pids(standing_db)) == WORKERS, what="each worker has a lease")
    yield started
    own = {child.pid for child in children()}
    assert started.stop() == 0, started.output()
    assert not own & pids(standing_db), "leases are given back"


def pids(db: Database) -> set[int]:
    return {row["process_id"] for row in db.fetch(PROCESSES)}


def everywhere(proxy: Proxy, scene: Scene, status: int) -> bool:
    """Asked over connections of their own, which any worker may take."""
    asked = (httpx.get(f"{proxy.url}/v1/key", headers=scene.http.headers, trust_env=False) for _ in range(4 * WORKERS))
    return all(answer.status_code == status for answer in asked)


def test_a_change_at_one_worker_is_known_to_the_others(workers: Proxy, scene: Scene) -> None:
    assert everywhere(workers, scene, 200)

    change = {"allowed_ips": ["192.0.2.1"]}
    changed = httpx.patch(f"{workers.url}/admin/keys/{scene.key_id}", json=change, headers=scene.admin.http.headers, trust_env=False)

    assert changed.status_code == 200
    wait_until(lambda: everywhere(workers, scene, 403), within=4)


def test_a_worker_that_is_killed_is_replaced_and_its_calls_are_ended_by_the_others(workers: Proxy, scene: Scene) -> None:
    scene.known_to(workers, workers=WORKERS)
    before = pids(scene.db)
    gate = scene.upstream.hold()
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(scene.http.post, f"{workers.url}/v1/chat/completions", json=scene.chat())
        wait_until(lambda: scene.upstream.requests, what="the call upstream")
        killed = scene.db.value(HOLDER, scene.user)
        psutil.Process(killed).kill()
        assert isinstance(call.exception(20), httpx.TransportError)
    gate.open()

    assert scene.row()["end_reason"] == "orphaned"
    wait_until(lambda: len(pids(scene.db)) == len(before) and killed not in pids(scene.db), what="another one in its place")
    scene.db.execute("UPDATE aigcspace.key_policy SET allowed_ips = '{192.0.2.1}' WHERE key_id = $1", scene.key_id)
    wait_until(lambda: everywhere(workers, scene, 403), what="all listen", within=4)


def test_whichever_worker_answers_tells_the_calls_of_all(workers: Proxy, scene: Scene) -> None:
    scene.known_to(workers, workers=WORKERS)
    calls = 4 * WORKERS
    for _ in range(calls):  # over connections of their own, which any worker may take
        asked = httpx.post(f"{workers.url}/v1/chat/completions", headers=scene.http.headers, json=scene.chat(), trust_env=False)
        assert asked.status_code == 200

    def all_know() -> bool:
        told = [Scraped.of(workers.url, token=None) for _ in range(2 * WORKERS)]
        known = {(one.sum("billing_proxy_calls_total", model=scene.model), one.sum("billing_proxy_accepting_processes")) for one in told}
        return known == {(calls, WORKERS)}

    wait_until(all_know, what="all workers know of all calls", within=15)

    before = pids(scene.db)
    children = psutil.Process(workers.process.pid).children
    serving = [child for child in children() if child.pid in before]
    serving[0].kill()
    wait_until(lambda: serving[0].pid not in pids(scene.db) and len(pids(scene.db)) == len(before), what="another one in its place")
    wait_until(all_know, what="no count has fallen", within=15)
