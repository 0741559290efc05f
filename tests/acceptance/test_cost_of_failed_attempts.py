"""What an attempt that failed cost at its upstream is in the row's attempts, and not in the bill."""

import json
from typing import Any

from tests.harness.answers import Answer
from tests.harness.books import charge
from tests.harness.scene import RATES, Scene, another_upstream
from tests.standin import STREAM

REPORTED = {"error": {"message": "gave up"}, "usage": {"prompt_tokens": 1000, "completion_tokens": 200, "total_tokens": 1200}}
TOLD = {"input_tokens": 1000, "output_tokens": 200, "usage_source": "provider", "cost": "0.0045000000"}


def attempts(scene: Scene) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in attempt.items() if name not in ("ms", "upstream_id")}
        for attempt in json.loads(scene.row()["attempts"])
    ]


def assert_billed_for_its_answer_alone(scene: Scene) -> None:
    row = scene.row()
    assert (row["status"], row["usage_source"]) == ("success", "provider")
    assert row["input_tokens"] < 10
    assert row["charge"] == charge(RATES, row)


def test_of_one_that_reported_usage_with_its_error(scene: Scene) -> None:
    with another_upstream(scene):
        scene.upstream.answer(json=REPORTED, status=500)
        assert scene.post(scene.chat()).status_code == 200

    assert attempts(scene) == [{"status": 500, **TOLD}, {"status": 200}]
    assert_billed_for_its_answer_alone(scene)


def test_of_one_whose_error_the_client_got(scene: Scene) -> None:
    scene.upstream.answer(json=REPORTED, status=500)
    assert scene.post(scene.chat()).json() == REPORTED

    assert attempts(scene) == [{"status": 500, **TOLD}]
    row = scene.row()
    assert (row["status"], row["charge"], row["input_tokens"], row["usage_source"]) == ("failed", 0, 0, "none")


def test_of_one_that_was_cut_before_its_first_byte_the_input(scene: Scene) -> None:
    cut = Answer(pieces=[b""], headers={"content-type": STREAM}, framing="chunked", ending="rst")
    with another_upstream(scene):
        scene.upstream.always(cut)
        assert scene.post(scene.chat("word " * 400, stream=True)).status_code == 200

    failed, served = attempts(scene)
    assert served == {"status": 200}
    assert (failed["error"], failed["usage_source"], failed["output_tokens"]) == ("upstream_broken", "estimated", 0)
    assert 200 <= failed["input_tokens"] <= 1000
    assert float(failed["cost"]) == failed["input_tokens"] * 2.5 / 1_000_000
    assert scene.row()["charge"] == charge(RATES, scene.row())


def test_of_one_that_told_nothing_nothing(scene: Scene) -> None:
    with another_upstream(scene):
        scene.upstream.answer(json={"error": {"message": "no"}}, status=500)
        assert scene.post(scene.chat()).status_code == 200

    assert attempts(scene) == [{"status": 500}, {"status": 200}]
