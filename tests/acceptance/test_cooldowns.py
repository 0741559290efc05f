"""What an upstream asks for in `Retry-After` counts for all calls: they go elsewhere, or are told how long to wait."""

from collections.abc import Callable

import pytest

from tests.harness.books import wait_until
from tests.harness.scene import Scene, another_upstream

BUSY = {"error": {"message": "slow down"}}


def served_by(scene: Scene) -> int:
    assert scene.post(scene.chat()).status_code == 200
    return int(scene.rows()[-1]["upstream_id"])


@pytest.mark.parametrize("status", [429, 503])
def test_later_calls_go_elsewhere_until_it_is_over(scene: Scene, status: int) -> None:
    with another_upstream(scene) as (second, _):
        scene.upstream.answer(json=BUSY, status=status, headers={"Retry-After": "1"})

        assert [served_by(scene) for _ in range(3)] == [second] * 3
        assert len(scene.upstream.requests) == 1
        wait_until(lambda: served_by(scene) == scene.upstream_id, what="the upstream is asked again")


@pytest.mark.parametrize(("status", "code"), [(429, "upstream_rate_limited"), (503, "upstream_overloaded")])
def test_where_none_is_left_the_client_is_told_the_seconds_that_remain(scene: Scene, status: int, code: str) -> None:
    with another_upstream(scene) as (_, second):
        for upstream in (scene.upstream, second):
            upstream.answer(json=BUSY, status=status, headers={"Retry-After": "60"})
        assert scene.post(scene.chat()).headers["retry-after"] == "60"

        refused = scene.post(scene.chat())

        assert (refused.status_code, refused.json()["error"]["code"]) == (status, code)
        assert 0 < int(refused.headers["retry-after"]) <= 60
        assert [len(upstream.requests) for upstream in (scene.upstream, second)] == [1, 1]
        rows = scene.rows()
        assert [(row["status"], row["http_status"], row["bill"]) for row in rows] == [("failed", status, 0)] * 2
        assert (rows[1]["end_reason"], rows[1]["attempts"]) == (code, None)


def test_a_rate_is_that_of_the_secret_that_was_used(new_scene: Callable[..., Scene]) -> None:
    scene = new_scene(api_key="first-secret-of-two-0001", api_keys=["second-secret-of-two-0002"])
    for _ in range(2):
        scene.upstream.answer(json=BUSY, status=429, headers={"Retry-After": "60"})
    assert scene.post(scene.chat()).json() == scene.post(scene.chat()).json() == BUSY

    assert scene.post(scene.chat()).json()["error"]["code"] == "upstream_rate_limited"
    assert len({request.header("authorization") for request in scene.upstream.requests}) == len(scene.upstream.requests) == 2
