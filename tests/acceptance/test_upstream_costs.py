"""What upstreams charge the operator: kept on each row as it was then, summed up by hour, and seen by the operator alone."""

from decimal import Decimal

from tests.harness.admin import Admin
from tests.harness.books import charge
from tests.harness.scene import Scene

COST = {"input": "1.5", "output": "6", "cache_read": "0.1"}
DEARER = {"input": "3", "output": "12", "cache_read": "0.2"}


def set_cost(scene: Scene, admin: Admin, rates: dict[str, str]) -> None:
    admin.ask("PUT", f"/admin/upstreams/{scene.upstream_id}/prices/{scene.model}", json={"rates": rates})


def test_a_row_keeps_what_its_upstream_charged(scene: Scene, admin: Admin) -> None:
    scene.post(scene.chat("before"))
    set_cost(scene, admin, COST)
    scene.post(scene.chat("then " * 50))
    set_cost(scene, admin, DEARER)
    scene.post(scene.chat("now", stream=True))
    scene.post(scene.chat("too dear", max_tokens=100_000_000))

    before, then, now, refused = scene.rows()

    assert (before["upstream_cost"], refused["upstream_cost"]) == (None, None)
    assert (then["upstream_cost"], now["upstream_cost"]) == (charge(COST, then), charge(DEARER, now))
    assert then["charge"] == charge(scene.rates, then), "what the client pays is another matter"
    summed = scene.db.value("SELECT sum(upstream_cost) FROM aigcspace.usage_hourly WHERE user_id = $1", scene.user)
    assert summed == then["upstream_cost"] + now["upstream_cost"]
    prices = admin.listed(f"/admin/upstreams/{scene.upstream_id}/prices")
    assert [price["rates"] for price in prices] == [DEARER, COST]


def test_a_cost_that_is_not_known_whole_is_not_told(scene: Scene, admin: Admin) -> None:
    set_cost(scene, admin, {"input": "1.5"})
    scene.post(scene.chat("hello"))

    assert scene.row()["upstream_cost"] is None


def test_the_operator_alone_sees_it(scene: Scene, admin: Admin) -> None:
    set_cost(scene, admin, COST)
    scene.post(scene.chat("hello"))
    row = scene.row()

    for path in (f"/logs/{row['id']}", f"/logs?user_id={scene.user}"):
        for http, shown in ((admin.http, f"{row['upstream_cost']:f}"), (scene.http, None)):
            answer = http.get(path).json()
            assert (answer["data"][0] if "data" in answer else answer)["upstream_cost"] == shown
    assert scene.http.put(f"/admin/upstreams/{scene.upstream_id}/prices/x", json={"rates": COST}).status_code == 401


def test_a_cost_that_makes_no_sense(scene: Scene, admin: Admin) -> None:
    path = f"/admin/upstreams/{scene.upstream_id}/prices/{scene.model}"
    assert admin.http.put(path, json={"rates": {"input": "-1"}}).status_code == 422
    assert admin.http.put("/admin/upstreams/999999/prices/x", json={"rates": COST}).status_code == 404
    first = {"rates": COST, "effective_from": "2030-01-01T00:00:00Z"}
    assert [admin.http.put(path, json=first).status_code for _ in range(2)] == [200, 409]
    assert Decimal(admin.listed(f"/admin/upstreams/{scene.upstream_id}/prices")[0]["rates"]["input"]) == Decimal("1.5")
