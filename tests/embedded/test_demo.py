"""The demo: known by what only it has, for the proxy alone, and removed without taking anything of the operator's."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.installation import HELLO, Installation
from tests.harness.postgres import Database
from tests.harness.proxy import Proxy

DEMO_MODEL = "/internal/demo/v1/chat/completions"
ROUTE = """INSERT INTO aigcspace.model_route (upstream_id, model_id, pattern)
    SELECT upstream.id, model.id, 'demo-echo' FROM aigcspace.upstream, aigcspace.model
    WHERE upstream.name = 'demo' AND model.name = 'demo-echo'"""


def test_the_demo_is_removed_while_it_is_served_and_stays_away(started_before: Installation) -> None:
    started_before.start()
    assert "gone" in started_before.run("demo", "remove").stdout
    assert started_before.call().status_code == 403
    started_before.stop()
    started_before.start()
    assert started_before.call().status_code == 403
    assert "no demo" in started_before.run("demo", "remove").stdout


def test_the_demo_model_is_for_the_proxy_alone(started_before: Installation) -> None:
    started_before.start()
    assert started_before.http.post(DEMO_MODEL, json=HELLO).status_code == 401


def test_a_token_that_is_not_ascii_is_refused_like_any_other(started_before: Installation) -> None:
    started_before.start()
    answer = started_before.http.post(DEMO_MODEL, json=HELLO, headers={"Authorization": "Bearer sécret".encode()})
    assert answer.status_code == 401
    assert "Traceback" not in (started_before.directory / "log").read_text()


def test_an_operators_own_upstream_named_demo_is_left_alone(started_before: Installation) -> None:
    started_before.start()
    assert "gone" in started_before.run("demo", "remove").stdout
    own = {"name": "demo", "base_url": "http://127.0.0.1:9/v1", "api_key": "sk-of-the-operator-0123", "is_local": True, "models": ["own"]}
    made = started_before.http.post("/admin/upstreams", json=own, headers=started_before.operator())
    assert made.status_code == 201, made.text
    started_before.http.patch("/admin/users/demo", json={"disabled": False}, headers=started_before.operator()).raise_for_status()

    started_before.stop()
    started_before.start()
    removed = started_before.run("demo", "remove")

    assert (removed.returncode, removed.stdout.strip()) == (0, "There is no demo here.")
    kept = started_before.http.get(f"/admin/upstreams/{made.json()['id']}", headers=started_before.operator()).raise_for_status().json()
    assert kept == made.json()
    assert not started_before.http.get("/admin/users/demo", headers=started_before.operator()).json()["disabled"]


def test_the_demo_is_found_by_another_name(started_before: Installation) -> None:
    started_before.start()
    [demo] = started_before.http.get("/admin/upstreams", headers=started_before.operator()).json()["data"]
    path = f"/admin/upstreams/{demo['id']}"
    started_before.http.patch(path, json={"name": "echo"}, headers=started_before.operator()).raise_for_status()
    assert "gone" in started_before.run("demo", "remove").stdout
    assert started_before.http.get(path, headers=started_before.operator()).status_code == 404


def test_only_an_embedded_database_has_its_demo_moved(proxies: Callable[..., Proxy], db: Database) -> None:
    url = "http://127.0.0.1:9/internal/demo"
    db.execute("INSERT INTO aigcspace.upstream (name, base_url, is_local) VALUES ('demo', $1, true)", url)
    proxies()
    assert db.value("SELECT base_url FROM aigcspace.upstream WHERE name = 'demo'") == url


class TestRemoval:
    @pytest.fixture
    def remove(self, db: Database, tmp_path: Path) -> Callable[[], None]:
        """A demo's rows in a database, and the command that takes them away."""
        db.execute("DELETE FROM aigcspace.upstream")
        demo = "INSERT INTO aigcspace.upstream (name, base_url, is_local) VALUES ('demo', 'http://127.0.0.1:9/internal/demo', true)"
        db.execute(demo)
        db.execute("INSERT INTO aigcspace.model (name) VALUES ('demo-echo') ON CONFLICT DO NOTHING")
        db.execute("INSERT INTO aigcspace.model_price (model_name, rates) VALUES ('demo-echo', '{}')")
        db.execute(ROUTE)

        def run() -> None:
            removed = Installation(tmp_path).run("demo", "remove", DATABASE_URL=db.url)
            assert (removed.returncode, removed.stdout.strip()) == (0, "The demo is gone."), removed.stderr

        return run

    def left(self, db: Database) -> tuple[int, int, int]:
        counts = (
            "SELECT count(*) FROM aigcspace.upstream WHERE name = 'demo'",
            "SELECT count(*) FROM aigcspace.model WHERE name = 'demo-echo'",
            "SELECT count(*) FROM aigcspace.model_price WHERE model_name = 'demo-echo'",
        )
        return tuple(db.value(count) for count in counts)

    def test_its_model_goes_with_it(self, remove: Callable[[], None], db: Database) -> None:
        remove()
        assert self.left(db) == (0, 0, 0)

    def test_its_model_stays_where_another_upstream_serves_it(self, remove: Callable[[], None], db: Database) -> None:
        db.execute("INSERT INTO aigcspace.upstream (name, base_url) VALUES ('other', 'http://127.0.0.1:9/v1')")
        db.execute(ROUTE.replace("'demo'", "'other'"))
        remove()
        assert self.left(db) == (0, 1, 1)
