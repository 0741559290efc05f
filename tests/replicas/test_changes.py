"""What is changed at one process, or by the platform's own SQL, is known to another soon, by notices alone."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.harness.books import wait_until
from tests.harness.database_relay import DatabaseRelay
from tests.harness.postgres import Database
from tests.harness.proxy import Proxy, running
from tests.harness.scene import Scene

SOON = 4.0
"""Seconds: a busy machine gets there, and what looks anew by itself doesn't, as a caller is remembered for five."""
LISTENERS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'billing-proxy changes' AND datname = current_database()"
ADD_PRICE = 'INSERT INTO aigcspace.model_price (model_name, rates) VALUES ($1, \'{"input": "1", "output": "1"}\')'
ADD_ROUTE = "INSERT INTO aigcspace.model_route (upstream_id, pattern) VALUES ($1, $2)"


def status_at(proxy: Proxy, scene: Scene) -> int:
    """Of a call that the change feed alone decides about: it reserves nothing."""
    return scene.http.get(f"{proxy.url}/v1/key").status_code


def offered_at(proxy: Proxy, scene: Scene) -> set[str]:
    models: list[dict[str, str]] = scene.http.get(f"{proxy.url}/v1/models").raise_for_status().json()["data"]
    return {model["id"] for model in models}


def wildcard(scene: Scene) -> str:
    """A route of the scene's upstream, made by SQL; a price makes a model of it."""
    prefix = f"wild-{secrets.token_hex(4)}/"
    scene.db.execute(ADD_ROUTE, scene.upstream_id, f"{prefix}*")
    return prefix


def test_routes_prices_and_keys_changed_over_rest_are_known_to_the_other(scene: Scene, replica: Proxy) -> None:
    wait_until(lambda: scene.model in offered_at(replica, scene), what="the route", within=SOON)
    other = f"other-{scene.user}"
    scene.admin.ask("PATCH", f"/admin/keys/{scene.key_id}", json={"models": [f"{other}*"]})
    wait_until(lambda: offered_at(replica, scene) == set(), what="the key's models", within=SOON)
    scene.admin.ask("PATCH", f"/admin/upstreams/{scene.upstream_id}", json={"models": [f"{other}-*"]})
    scene.admin.set_price(f"{other}-1", {"input": "1", "output": "2"})
    wait_until(lambda: offered_at(replica, scene) == {f"{other}-1"}, what="the price", within=SOON)


def test_routes_and_prices_changed_by_sql_are_known_to_all(scene: Scene, replica: Proxy) -> None:
    model = wildcard(scene) + "model"
    scene.db.execute(ADD_PRICE, model)
    wait_until(lambda: {scene.model, model} <= offered_at(replica, scene), what="route and price", within=SOON)
    scene.db.execute("UPDATE aigcspace.upstream SET disabled_at = now() WHERE id = $1", scene.upstream_id)
    wait_until(lambda: not {scene.model, model} & offered_at(replica, scene), what="the upstream's end", within=SOON)


@pytest.mark.parametrize(
    ("sql", "status"),
    [
        ("UPDATE aigcspace.key_policy SET allowed_ips = '{{192.0.2.1}}' WHERE key_id = {key}", 403),
        ("DELETE FROM aigcspace.platform_api_key WHERE id = {key}", 401),
        ("UPDATE aigcspace.platform_api_key SET key_hash = md5(key_hash) WHERE id = {key}", 401),
        ("UPDATE aigcspace.account SET disabled_at = now() WHERE user_id = '{user}'", 403),
        ("DELETE FROM aigcspace.users WHERE id = '{user}'", 401),
    ],
)
def test_keys_and_users_changed_by_sql_are_known_to_all(scene: Scene, replica: Proxy, sql: str, status: int) -> None:
    assert status_at(replica, scene) == 200

    scene.db.execute(sql.format(key=scene.key_id, user=scene.user))

    wait_until(lambda: status_at(replica, scene) == status, what=sql, within=SOON)


def test_a_key_of_the_platforms_that_gets_its_first_policy(scene: Scene, replica: Proxy) -> None:
    scene.db.execute("DELETE FROM aigcspace.key_policy WHERE key_id = $1", scene.key_id)
    wait_until(lambda: status_at(replica, scene) == 200)

    scene.db.execute("INSERT INTO aigcspace.key_policy (key_id, allowed_ips) VALUES ($1, '{192.0.2.1}')", scene.key_id)

    wait_until(lambda: status_at(replica, scene) == 403, within=SOON)


def test_what_was_changed_while_the_listener_was_cut_off_is_read_when_it_is_back(scene: Scene, replica: Proxy) -> None:
    model = wildcard(scene) + "model"
    wait_until(lambda: status_at(replica, scene) == 200)
    cut_off = {row["pid"] for row in scene.db.fetch(LISTENERS)}

    with ExitStack() as stack:
        scene.db.execute("BEGIN")
        stack.callback(scene.db.execute, "COMMIT")
        scene.db.execute("UPDATE aigcspace.key_policy SET allowed_ips = '{192.0.2.1}' WHERE key_id = $1", scene.key_id)
        scene.db.execute(ADD_PRICE, model)
        for pid in cut_off:
            scene.db.value("SELECT pg_terminate_backend($1)", pid)
    wait_until(lambda: status_at(replica, scene) == 403, what="the key's addresses", within=SOON)
    scene.db.execute("UPDATE aigcspace.key_policy SET allowed_ips = NULL WHERE key_id = $1", scene.key_id)
    wait_until(lambda: status_at(replica, scene) == 200, within=SOON)
    assert model in offered_at(replica, scene)


def test_a_listener_that_is_cut_off_while_nothing_happens_is_back_soon(scene: Scene, replica: Proxy) -> None:
    scene.known_to(replica)
    for _ in range(2):  # the second time nothing else is under way
        cut_off = {row["pid"] for row in scene.db.fetch(LISTENERS)}
        for pid in cut_off:
            scene.db.value("SELECT pg_terminate_backend($1)", pid)
        wait_until(lambda: len({row["pid"] for row in scene.db.fetch(LISTENERS)} - cut_off) == len(cut_off), within=SOON)  # noqa: B023
        scene.db.execute("UPDATE aigcspace.model SET context_tokens = 1000 WHERE name = $1", scene.model)


def test_what_was_changed_without_a_notice_is_read_after_one_that_means_everything(scene: Scene, replica: Proxy) -> None:
    model = wildcard(scene) + "model"
    scene.known_to(replica)
    scene.db.execute("BEGIN; SET LOCAL aigcspace.notify = 'off'")
    scene.db.execute("UPDATE aigcspace.account SET disabled_at = now() WHERE user_id = $1", scene.user)
    scene.db.execute(ADD_PRICE, model)
    scene.db.execute("COMMIT")
    assert scene.post(scene.chat(), f"{replica.url}/v1/chat/completions").status_code == 403, "calls are refused at once all the same"

    scene.db.execute("SELECT pg_notify('aigcspace_changes', 'all')")

    wait_until(lambda: status_at(replica, scene) == 403)
    scene.db.execute("UPDATE aigcspace.account SET disabled_at = NULL WHERE user_id = $1", scene.user)
    wait_until(lambda: status_at(replica, scene) == 200)
    assert model in offered_at(replica, scene)


@pytest.fixture
def alone(db: Database, tmp_path: Path) -> Iterator[Callable[..., Proxy]]:
    """Starts proxies for one test."""
    with ExitStack() as stack:

        def start(url: str, **settings: str) -> Proxy:
            proxy = Proxy(database_url=url, directory=tmp_path, **settings)
            stack.callback(lambda: proxy in running and proxy.stop())
            return proxy.wait_ready()

        yield start


def test_a_pooler_that_passes_no_notices_on_is_found_out(scene: Scene, alone: Callable[..., Proxy]) -> None:
    with DatabaseRelay(scene.db.url) as pooler:
        pooler.lose_notices()
        polling = alone(pooler.url, CHANGE_POLL="0.2")
        wait_until(lambda: "notices don't come through" in polling.output(), what="it is said")
        assert status_at(polling, scene) == 200
        model = wildcard(scene) + "model"

        scene.db.execute(ADD_PRICE, model)
        scene.db.execute("UPDATE aigcspace.account SET disabled_at = now() WHERE user_id = $1", scene.user)

        wait_until(lambda: status_at(polling, scene) == 403, what="the user's end", within=SOON)
        scene.db.execute("UPDATE aigcspace.account SET disabled_at = NULL WHERE user_id = $1", scene.user)
        wait_until(lambda: status_at(polling, scene) == 200, within=SOON)
        wait_until(lambda: model in offered_at(polling, scene), what="the price", within=SOON)  # callers are read before the catalog
        assert polling.stop() == 0


def test_a_proxy_that_is_to_poll_does_not_listen(scene: Scene, alone: Callable[..., Proxy]) -> None:
    before = len(scene.db.fetch(LISTENERS))
    polling = alone(scene.db.url, CHANGE_FEED="poll", CHANGE_POLL="0.2")
    model = wildcard(scene) + "model"
    scene.db.execute(ADD_PRICE, model)

    wait_until(lambda: model in offered_at(polling, scene), within=SOON)
    assert len(scene.db.fetch(LISTENERS)) == before
    assert polling.stop() == 0
