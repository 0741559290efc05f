"""A group that changes changes its users at every process soon, whoever changes it."""

from tests.harness.books import wait_until
from tests.harness.proxy import Proxy
from tests.harness.scene import Scene

SOON = 4.0
"""Seconds: less than a caller is remembered without notices."""


def test_a_group_that_changes_changes_its_users(scene: Scene, replica: Proxy) -> None:
    def is_offered() -> bool:
        models = scene.http.get(f"{replica.url}/v1/models").raise_for_status().json()["data"]
        return scene.model in {model["id"] for model in models}

    scene.admin.ask("POST", "/admin/groups", json={"name": scene.user})
    scene.admin.ask("PATCH", f"/admin/users/{scene.user}", json={"group": scene.user})
    wait_until(is_offered, what="the model", within=15)

    scene.admin.ask("PATCH", f"/admin/groups/{scene.user}", json={"models": ["nothing"]})
    wait_until(lambda: not is_offered(), what="what the group may use", within=SOON)
    scene.db.execute("UPDATE aigcspace.user_policy SET group_id = NULL WHERE user_id = $1", scene.user)
    wait_until(is_offered, what="that the user left it", within=SOON)
