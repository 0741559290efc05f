"""Named tokens of operators: shown once, known by their name, of a role, and refused from the request after they are taken away."""

import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness.admin import Admin
from tests.harness.postgres import Database
from tests.harness.proxy import Proxy
from tests.harness.scene import Scene


@pytest.fixture
def name() -> str:
    return f"name-{secrets.token_hex(4)}"


@pytest.fixture
def made(admin: Admin, name: str) -> dict[str, Any]:
    return dict(admin.ask("POST", "/admin/tokens", json={"name": name, "role": "viewer"}))


@pytest.fixture
def viewer(proxy: Proxy, made: dict[str, Any]) -> Iterator[Admin]:
    with Admin(proxy.url, made["token"]) as operator:
        yield operator


def test_a_token_is_shown_once_and_stored_as_a_hash(admin: Admin, db: Database, made: dict[str, Any]) -> None:
    shown = admin.ask("GET", f"/admin/tokens/{made['id']}")
    row = db.one("SELECT * FROM aigcspace.admin_token WHERE id = $1", made["id"])

    assert made["token"] not in f"{shown} {admin.listed('/admin/tokens')} {row}"
    assert shown | {"token": made["token"]} == made
    assert made["token"].startswith(shown["token_prefix"])


def test_a_viewer_reads_everything_and_changes_nothing(viewer: Admin, scene: Scene, name: str) -> None:
    for path in ("users", "keys", "groups", "upstreams", "models", "prices", "tokens", "audit", f"keys/{scene.key_id}"):
        assert viewer.ask("GET", f"/admin/{path}") is not None
    scene.post(scene.chat())
    scene.row()
    assert viewer.logs(user_id=scene.user)
    attempts = [
        ("POST", "users", {"id": name}),
        ("DELETE", f"users/{scene.user}", None),
        ("POST", f"users/{scene.user}/credits", {"amount": "1"}),
        ("POST", "keys", {"user_id": scene.user}),
        ("POST", f"keys/{scene.key_id}/rotate", None),
        ("PATCH", f"upstreams/{scene.upstream_id}", {"name": name}),
        ("POST", f"upstreams/{scene.upstream_id}/test", None),
        ("PUT", f"prices/{scene.model}", {"rates": {"input": "1"}}),
        ("PUT", f"models/{scene.model}", {}),
        ("POST", "tokens", {"name": f"{name}-2"}),
    ]
    for method, path, body in attempts:
        answer = viewer.http.request(method, f"/admin/{path}", json=body)
        assert (answer.status_code, answer.json()["code"]) == (403, "viewer_only"), (method, path)
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_token_taken_away_is_refused_at_its_next_request(admin: Admin, viewer: Admin, made: dict[str, Any]) -> None:
    path = f"/admin/tokens/{made['id']}"
    assert viewer.ask("GET", path)["last_used_at"] is not None
    admin.ask("PATCH", path, json={"role": "admin"})
    viewer.ask("PATCH", path, json={"expires_at": None})

    for change in ({"expires_at": "2001-01-01T00:00:00Z"}, {"disabled": True}):
        admin.ask("PATCH", path, json=change)
        answer = viewer.http.get("/admin/users")
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_admin_token")
        assert viewer.http.get("/logs").status_code == 401
        admin.ask("PATCH", path, json={"disabled": False, "expires_at": None})
        viewer.ask("GET", "/admin/users")
    admin.ask("DELETE", path)
    assert viewer.http.get("/admin/users").status_code == 401


def test_a_name_is_taken_for_good(admin: Admin, made: dict[str, Any], name: str) -> None:
    admin.ask("DELETE", f"/admin/tokens/{made['id']}")

    assert admin.http.post("/admin/tokens", json={"name": name}).status_code == 409
    assert admin.http.patch(f"/admin/tokens/{made['id']}", json={"name": "other"}).status_code == 422
