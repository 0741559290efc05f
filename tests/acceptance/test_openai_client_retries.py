"""The official `openai` client tries again by itself after our 429s and 503s, when we say; and is billed once."""

from typing import Any

import pytest

from tests.acceptance.conftest import BOTH, Connect, chunks, done
from tests.harness.books import charge
from tests.harness.scene import RATES, Scene

STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
RPM = 600


async def retried(scene: Scene, connect: Connect, *, stream: bool) -> int:
    """How often the client had to try again until it was served."""
    raw = connect(scene, max_retries=2).chat.completions.with_raw_response
    answer: Any = await done(raw.create(**scene.chat(), stream=stream))
    assert "retry-after" not in answer.headers
    parsed = answer.parse()
    assert await chunks(parsed) if stream else parsed.choices[0].message.content
    return int(answer.retries_taken)


def assert_billed_once(scene: Scene, *, rows: int) -> None:
    *failed, served = scene.rows()
    assert len(failed) + 1 == rows
    assert all((row["status"], row["charge"], row["bill"]) == ("failed", 0, 0) for row in failed)
    assert served["status"] == "success"
    assert scene.account()["spent"] == served["charge"] == charge(RATES, served) > 0


@BOTH
@STREAMED
async def test_after_a_rate_of_ours_which_leaves_no_row(scene: Scene, connect: Connect, stream: bool) -> None:
    scene.admin.ask("PATCH", f"/admin/keys/{scene.key_id}", json={"rpm": RPM})
    scene.db.execute("UPDATE aigcspace.key_meter SET request_level = $2, drained_at = now() WHERE key_id = $1", scene.key_id, RPM + 11.0)

    assert await retried(scene, connect, stream=stream) == 1

    assert_billed_once(scene, rows=1)
    assert len(scene.upstream.requests) == 1


@BOTH
@STREAMED
@pytest.mark.parametrize("status", [429, 503])
async def test_after_a_pause_that_the_upstream_asked_for(scene: Scene, connect: Connect, stream: bool, status: int) -> None:
    scene.upstream.answer(json={"error": {"message": "busy"}}, status=status, headers={"retry-after-ms": "1200"})
    assert scene.post(scene.chat()).status_code == status

    assert await retried(scene, connect, stream=stream) == 1

    assert_billed_once(scene, rows=3)
    assert len(scene.upstream.requests) == 2


@BOTH
async def test_after_an_upstreams_own_answer_that_is_passed_on(scene: Scene, connect: Connect) -> None:
    for status in (503, 429):
        scene.upstream.answer(json={"error": {"message": "busy"}}, status=status, headers={"retry-after-ms": "50"})

    assert await retried(scene, connect, stream=False) == 2

    assert_billed_once(scene, rows=3)


def test_a_refusal_tells_the_wait_in_whole_seconds_and_finer(scene: Scene) -> None:
    scene.admin.ask("PATCH", f"/admin/keys/{scene.key_id}", json={"rpm": 1})
    assert scene.post(scene.chat()).status_code == 200

    headers = scene.post(scene.chat()).headers

    assert int(headers["retry-after"]) - 1 < int(headers["retry-after-ms"]) / 1000 <= int(headers["retry-after"]) <= 60
