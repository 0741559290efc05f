"""Routes one by one: which upstream serves which model, in which order, beside what upstreams say of all their models."""

import secrets
from typing import Any

import pytest

from tests.harness.admin import Admin
from tests.harness.scene import Scene


@pytest.fixture
def name() -> str:
    return f"name-{secrets.token_hex(4)}"


def routes(admin: Admin, upstream_id: int) -> list[dict[str, Any]]:
    return admin.listed("/admin/routes", upstream_id=upstream_id, limit=1)


def test_a_model_is_served_from_its_route_on_and_no_longer_than_it(scene: Scene, admin: Admin, name: str) -> None:
    admin.set_price(name, scene.rates)
    made = admin.ask("POST", "/admin/routes", json={"upstream_id": scene.upstream_id, "model": name, "upstream_model": "their-name"})
    assert scene.post(scene.chat() | {"model": name}).status_code == 200
    assert scene.upstream.requests[0].json["model"] == "their-name"
    assert admin.ask("GET", f"/admin/upstreams/{scene.upstream_id}")["models"] == {scene.model: "stand-in", name: "their-name"}

    admin.ask("DELETE", f"/admin/routes/{made['id']}")
    assert scene.post(scene.chat() | {"model": name}).status_code == 404
    actions = [entry["action"] for entry in admin.listed("/admin/audit", object_kind="route", object_id=str(made["id"]))]
    assert actions == ["route.delete", "route.create"]


def test_one_routes_order_is_its_own_until_all_are_set(scene: Scene, admin: Admin, name: str) -> None:
    path = f"/admin/upstreams/{scene.upstream_id}"
    made = admin.ask("POST", "/admin/routes", json={"upstream_id": scene.upstream_id, "model": f"{name}/*", "priority": 5})
    admin.ask("PATCH", f"/admin/routes/{made['id']}", json={"weight": 7})

    def order() -> list[tuple[int, int]]:
        return [(route["priority"], route["weight"]) for route in routes(admin, scene.upstream_id)]

    assert order() == [(0, 1), (5, 7)]
    admin.ask("PATCH", path, json={"models": [scene.model, f"{name}/*", f"{name}-2"]})
    assert order() == [(0, 1), (5, 7), (0, 1)]
    admin.ask("PATCH", path, json={"priority": 3})
    assert order() == [(3, 1), (3, 7), (3, 1)]


def test_a_route_that_makes_no_sense(scene: Scene, admin: Admin, name: str) -> None:
    body = {"upstream_id": scene.upstream_id, "model": name}
    assert admin.http.post("/admin/routes", json=body | {"upstream_id": 2**31 - 1}).status_code == 404
    assert admin.http.post("/admin/routes", json=body | {"model": scene.model}).status_code == 409
    for wrong in ({"model": "a*b"}, {"upstream_model": "x*"}, {"weight": 0}, {"priority": 1001}):
        assert admin.http.post("/admin/routes", json=body | wrong).status_code == 422
    assert admin.http.get(f"/admin/routes/{2**31 - 1}").json()["code"] == "route_not_found"
