"""Reports that take long, or wait, take nothing away from calls."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import asyncpg
import httpx
import pytest
from sqlalchemy import make_url

from tests.harness.books import wait_until
from tests.harness.postgres import Database, connect
from tests.harness.proxy import Proxy
from tests.harness.scene import Scene

POOL = 2


@pytest.fixture(scope="module")
def proxy(proxies: Callable[..., Proxy]) -> Proxy:
    return proxies(DATABASE_POOL=str(POOL))


def test_calls_go_on_while_reports_have_all_their_connections(db: Database, scene: Scene) -> None:
    other = scene.admin.add_key(scene.user, name="that nobody has looked up yet")
    lock: asyncpg.Connection = db.run(connect(make_url(db.url)))
    db.run(lock.execute("BEGIN; LOCK TABLE aigcspace.audit_entry"))
    try:
        with ThreadPoolExecutor(POOL) as readers:
            reports = [readers.submit(scene.admin.http.get, "/admin/audit") for _ in range(POOL)]
            ours = "datname = current_database() AND query LIKE '%audit_entry%'"
            waiting = f"SELECT count(*) FROM pg_stat_activity WHERE {ours} AND wait_event_type = 'Lock'"
            wait_until(lambda: db.value(waiting) == POOL, what="all reports wait")

            assert httpx.get(f"{scene.proxy.url}/readyz", trust_env=False, timeout=20).status_code == 200
            headers = {"Authorization": f"Bearer {other['key']}"}
            assert scene.post(scene.chat(), headers=headers).status_code == 200
            assert not any(report.done() for report in reports)
            db.run(lock.execute("ROLLBACK"))
            assert [report.result().status_code for report in reports] == [200] * POOL
    finally:
        db.run(lock.close())
