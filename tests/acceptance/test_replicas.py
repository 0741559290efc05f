"""Replicas that share a database and nothing else: what is changed through one, or by the platform's own SQL, holds at the
others at once. They look by themselves only every half a minute here, so that what they know they were told."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.harness.admin import Admin
from tests.harness.books import wait_until
from tests.harness.postgres import Database
from tests.harness.proxy import Proxy
from tests.harness.scene import Scene
from tests.harness.scene import scene as set_scene

AT_ONCE = 1.0
LISTENERS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN %'"


@pytest.fixture(scope="module")
def db(databases: object) -> Iterator[Database]:
    with databases.fresh() as database:  # type: ignore[attr-defined]
        yield database


@pytest.fixture(scope="module")
def proxy(proxies: Callable[..., Proxy]) -> Proxy:
    return proxies(CHANGE_POLL="30")


@pytest.fixture(scope="module")
def other(proxies: Callable[..., Proxy]) -> Proxy:
    return proxies(CHANGE_POLL="30", SECRET_KEY="a-new-secret-key-0123456789", SECRET_KEY_OLD="secret-key-of-the-tests-0123456789")


@pytest.fixture
def scene(proxy: Proxy, other: Proxy, admin: Admin, db: Database) -> Iterator[Scene]:
    with set_scene(proxy, admin, db) as made:
        yield made


@contextmanager
def at(proxy: Proxy, key: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=proxy.url, headers={"Authorization": f"Bearer {key}"}, trust_env=False) as client:
        yield client


def soon(condition: Callable[[], object], what: str) -> None:
    started = time.monotonic()
    wait_until(condition, what=what, within=AT_ONCE + 2)  # a busy machine may stall
    assert time.monotonic() - started < AT_ONCE + 2


def test_a_price_and_a_route_are_known_at_once(scene: Scene, other: Proxy) -> None:
    with at(other, scene.key) as client:
        soon(lambda: client.post("/v1/chat/completions", json=scene.chat()).status_code == 200, "the new route and price")
        scene.db.execute("DELETE FROM aigcspace.model_route WHERE upstream_id = $1", scene.upstream_id)
        soon(lambda: client.post("/v1/chat/completions", json=scene.chat()).status_code == 404, "that the route is gone")


def test_a_key_that_is_disabled_or_limited_is_so_everywhere(scene: Scene, other: Proxy) -> None:
    with at(other, scene.key) as client:
        wait_until(lambda: client.post("/v1/chat/completions", json=scene.chat()).status_code == 200, what="a call")
        scene.admin.ask("PATCH", f"/admin/keys/{scene.key_id}", json={"models": ["nothing"]})
        soon(lambda: client.post("/v1/chat/completions", json=scene.chat()).status_code == 403, "what the key may use")
        scene.db.execute("UPDATE aigcspace.key_policy SET models = NULL WHERE key_id = $1", scene.key_id)
        soon(lambda: client.post("/v1/chat/completions", json=scene.chat()).status_code == 200, "that it may again, by SQL")
        scene.db.execute("UPDATE aigcspace.key_policy SET disabled_at = now() WHERE key_id = $1", scene.key_id)
        assert client.post("/v1/chat/completions", json=scene.chat()).status_code == 401


def test_a_group_that_changes_changes_its_users_everywhere(scene: Scene, other: Proxy) -> None:
    scene.admin.ask("POST", "/admin/groups", json={"name": scene.user})
    scene.admin.ask("PATCH", f"/admin/users/{scene.user}", json={"group": scene.user})
    with at(other, scene.key) as client:
        soon(lambda: client.post("/v1/chat/completions", json=scene.chat()).status_code == 200, "a call")
        scene.admin.ask("PATCH", f"/admin/groups/{scene.user}", json={"models": ["nothing"]})
        soon(lambda: client.post("/v1/chat/completions", json=scene.chat()).status_code == 403, "what the group may use")
        scene.admin.ask("PATCH", f"/admin/users/{scene.user}", json={"group": None})
        soon(lambda: client.post("/v1/chat/completions", json=scene.chat()).status_code == 200, "that the user left it")


def test_settling_a_call_tells_nobody(scene: Scene, other: Proxy) -> None:
    """What every call writes fires no notice: else each call would be heard of by all."""
    triggers = scene.db.fetch(
        "SELECT tgname, tgtype::int & 16 AS on_update, tgattr::text AS columns FROM pg_trigger "
        "WHERE tgrelid = ANY ($1::text[]::regclass[]) AND NOT tgisinternal",
        [f"aigcspace.{table}" for table in ("account", "key_meter", "call_hold", "api_call_log")],
    )
    assert [trigger["tgname"] for trigger in triggers] == ["billing_proxy_user_disabled"]
    assert triggers[0]["columns"] != ""


def test_a_listener_that_was_cut_off_hears_again(scene: Scene, other: Proxy) -> None:
    listening = wait_until(lambda: len(found := scene.db.fetch(LISTENERS)) >= 2 and found, what="both listen")
    for one in listening:
        scene.db.execute("SELECT pg_terminate_backend($1)", one["pid"])
    pids = {one["pid"] for one in listening}
    wait_until(lambda: len({one["pid"] for one in scene.db.fetch(LISTENERS)} - pids) >= 2, what="both listen again")
    with at(other, scene.key) as client:
        soon(lambda: client.post("/v1/chat/completions", json=scene.chat()).status_code == 200, "a call")
        scene.db.execute("DELETE FROM aigcspace.model_route WHERE upstream_id = $1", scene.upstream_id)
        soon(lambda: client.post("/v1/chat/completions", json=scene.chat()).status_code == 404, "that the route is gone")


def test_secrets_are_read_under_the_key_that_was_replaced(scene: Scene, other: Proxy) -> None:
    with at(other, scene.key) as client:
        soon(lambda: client.post("/v1/chat/completions", json=scene.chat()).status_code == 200, "a call")
    assert scene.upstream.requests[-1].header("authorization") == "Bearer upstream-secret-7c1d"


def test_a_rotated_key_works_on_for_as_long_as_was_said(scene: Scene, other: Proxy) -> None:
    rotated = scene.admin.ask("POST", f"/admin/keys/{scene.key_id}/rotate", json={"overlap_seconds": 600})
    assert rotated["id"] == scene.key_id
    for key in (scene.key, rotated["key"]):
        with at(other, key) as client:
            soon(lambda client=client: client.post("/v1/chat/completions", json=scene.chat()).status_code == 200, "both secrets work")
    assert {row["api_key_id"] for row in scene.rows()} == {scene.key_id}

    scene.db.execute("UPDATE aigcspace.retired_secret SET valid_until = clock_timestamp() WHERE key_id = $1", scene.key_id)
    with at(other, scene.key) as client:
        assert client.post("/v1/chat/completions", json=scene.chat()).status_code == 401
    again = scene.admin.ask("POST", f"/admin/keys/{scene.key_id}/rotate")
    with at(other, rotated["key"]) as client:
        assert client.post("/v1/chat/completions", json=scene.chat()).status_code == 401
    with at(other, again["key"]) as client:
        assert client.post("/v1/chat/completions", json=scene.chat()).status_code == 200


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest",
        "http://[fe80::1]/v1",
        "http://0xa9fea9fe/v1",
        "http://metadata.google.internal/v1",
        "http://[::ffff:a9fe:a9fe]/",
    ],
)
def test_a_clouds_metadata_is_no_upstream(admin: Admin, url: str) -> None:
    refused = admin.http.post("/admin/upstreams", json={"name": f"meta {url}", "base_url": url, "models": ["meta"]})
    assert (refused.status_code, "link-local" in refused.text) == (422, True)
