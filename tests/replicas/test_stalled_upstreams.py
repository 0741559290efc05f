"""An upstream that takes a call and says nothing is left for another one, but only where that may be better than to wait."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from tests.harness.admin import Admin
from tests.harness.books import wait_until
from tests.harness.proxy import Proxy
from tests.harness.scene import Scene, another_upstream


@pytest.fixture
def in_background() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def path_of(scene: Scene) -> list[tuple[int, object]]:
    """Where the last call went."""
    attempts = json.loads(scene.rows()[-1]["attempts"])
    return [(attempt["upstream_id"], attempt.get("error") or attempt["status"]) for attempt in attempts]


def test_a_stream_goes_elsewhere_after_first_byte_wait_and_an_answer_that_is_thought_over_is_waited_for(
    scene: Scene, replica: Proxy, in_background: ThreadPoolExecutor
) -> None:
    with Admin(replica.url) as operator, another_upstream(replace(scene, admin=operator)) as (second, _):
        url = f"{replica.url}/v1/chat/completions"
        gate = scene.upstream.hold()
        unary = in_background.submit(scene.post, scene.chat(), url)
        wait_until(lambda: scene.upstream.requests)

        assert scene.post(scene.chat(stream=True), url).status_code == 200

        assert path_of(scene) == [(scene.upstream_id, "upstream_timeout"), (second, 200)]
        assert not unary.done()
        gate.open()
        assert unary.result(15).status_code == 200
        assert path_of(scene) == [(scene.upstream_id, 200)]


def test_an_upstream_may_have_a_time_of_its_own_for_any_call_and_keeps_those_that_nobody_else_could_serve(
    scene: Scene, in_background: ThreadPoolExecutor
) -> None:
    patched = scene.admin.ask("PATCH", f"/admin/upstreams/{scene.upstream_id}", json={"first_byte_within": 0.3})
    assert patched["first_byte_within"] == 0.3
    gate = scene.upstream.hold()
    alone = in_background.submit(scene.post, scene.chat())
    wait_until(lambda: scene.upstream.requests)
    with another_upstream(scene) as (second, _):
        assert scene.post(scene.chat()).status_code == 200
        assert path_of(scene) == [(scene.upstream_id, "upstream_timeout"), (second, 200)]

        assert not alone.done()
        gate.open()
        assert alone.result(15).status_code == 200
        assert path_of(scene) == [(scene.upstream_id, 200)]
