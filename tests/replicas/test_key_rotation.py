"""A key's new secret, and the old one that works beside it for a while: at every process, on one meter."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tests.harness.proxy import Proxy
from tests.harness.scene import Scene

END_OVERLAP = "UPDATE aigcspace.retired_secret SET valid_until = clock_timestamp() WHERE key_id = $1"


def rotate(scene: Scene, overlap: int | None) -> str:
    body = {} if overlap is None else {"json": {"overlap_seconds": overlap}}
    return str(scene.admin.ask("POST", f"/admin/keys/{scene.key_id}/rotate", **body)["key"])


def call(proxy: Proxy, scene: Scene, key: str, **fields: Any) -> httpx.Response:
    return scene.http.post(f"{proxy.url}/v1/chat/completions", json=scene.chat(**fields), headers={"Authorization": f"Bearer {key}"})


def test_both_secrets_work_until_the_overlap_has_passed(scene: Scene, replica: Proxy) -> None:
    scene.known_to(replica)
    old, new = scene.key, rotate(scene, 3600)

    for proxy in (scene.proxy, replica):
        assert [call(proxy, scene, key).status_code for key in (old, new)] == [200, 200]
    shown = scene.admin.ask("GET", f"/admin/keys/{scene.key_id}")
    left = datetime.fromisoformat(shown["old_secret_until"]) - datetime.now(UTC)
    assert 3500 < left.total_seconds() <= 3600

    scene.db.execute(END_OVERLAP, scene.key_id)

    for proxy in (scene.proxy, replica):  # which have both secrets in memory
        assert [call(proxy, scene, key).status_code for key in (old, new)] == [401, 200]
    assert scene.admin.ask("GET", f"/admin/keys/{scene.key_id}")["old_secret_until"] is None
    assert {row["api_key_id"] for row in scene.rows()} == {scene.key_id}


def test_secrets_that_overlap_share_the_keys_limits(new_scene: Callable[..., Scene], replica: Proxy) -> None:
    scene = new_scene(key_fields={"rpm": 2})
    scene.known_to(replica)
    old, new = scene.key, rotate(scene, 3600)

    answers = [
        call(proxy, scene, key).status_code for proxy, key in ((replica, old), (scene.proxy, new), (replica, new), (scene.proxy, old))
    ]

    assert answers == [200, 200, 429, 429]
    assert len(scene.admin.listed("/admin/keys", user_id=scene.user)) == 1


def test_a_disabled_key_is_disabled_by_each_of_its_secrets(scene: Scene) -> None:
    old, new = scene.key, rotate(scene, 3600)
    scene.admin.ask("DELETE", f"/admin/keys/{scene.key_id}")

    assert [call(scene.proxy, scene, key).status_code for key in (old, new)] == [401, 401]


def test_a_rotation_without_overlap_ends_all_older_secrets(scene: Scene, replica: Proxy) -> None:
    scene.known_to(replica)
    first, second = scene.key, rotate(scene, 3600)
    third = rotate(scene, 60)
    assert [call(replica, scene, key).status_code for key in (first, second, third)] == [200, 200, 200]

    fourth = rotate(scene, None)

    assert [call(replica, scene, key).status_code for key in (first, second, third, fourth)] == [401, 401, 401, 200]


def test_a_secret_that_the_platform_gave_to_another_key_is_that_ones(scene: Scene) -> None:
    old, _ = scene.key, rotate(scene, 3600)
    other = scene.admin.add_key(scene.user, name="other")["id"]
    retired = scene.db.value("SELECT key_hash FROM aigcspace.retired_secret WHERE key_id = $1", scene.key_id)
    scene.db.execute("UPDATE aigcspace.platform_api_key SET key_hash = $1 WHERE id = $2", retired, other)

    assert call(scene.proxy, scene, old).status_code == 200
    assert scene.row()["api_key_id"] == other


@pytest.mark.parametrize("overlap", [-1, 0.5, "3600", 90 * 24 * 3600 + 1, None])
def test_an_overlap_that_makes_no_sense(scene: Scene, overlap: object) -> None:
    answer = scene.admin.http.post(f"/admin/keys/{scene.key_id}/rotate", json={"overlap_seconds": overlap})

    assert answer.status_code == 422
    assert call(scene.proxy, scene, scene.key).status_code == 200
