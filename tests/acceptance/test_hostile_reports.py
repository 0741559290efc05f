"""What an upstream reports that can't be true: the answer reaches the client as it came, is billed by what can be believed,
and its row says so. `tests/faults/test_hostile_usage.py` tries what nobody thought of."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.test_upstream_misbehaves import WORDS
from tests.harness.admin import Admin
from tests.harness.answers import sse
from tests.harness.books import charge
from tests.harness.postgres import Database
from tests.harness.scene import RATES, Scene

TEXT = " red green blue white"
UNTRUE = {
    "negative": '{"prompt_tokens":9,"completion_tokens":-5}',
    "huge": '{"prompt_tokens":1e30,"completion_tokens":5}',
    "beyond 64 bits": '{"prompt_tokens":9,"completion_tokens":9223372036854775808}',
    "without end": '{"prompt_tokens":9,"completion_tokens":1e999}',
    "NaN": '{"prompt_tokens":NaN,"completion_tokens":5}',
    "Infinity": '{"prompt_tokens":9,"completion_tokens":-Infinity}',
    "true": '{"prompt_tokens":true,"completion_tokens":5}',
    "text": '{"prompt_tokens":"9","completion_tokens":"5"}',
    "null": '{"prompt_tokens":null,"completion_tokens":null}',
    "half": '{"prompt_tokens":9}',
    "nested": '{"prompt_tokens":{"tokens":9},"completion_tokens":[5]}',
}


def assert_counted(row: dict[str, Any]) -> None:
    assert (row["status"], row["usage_source"], row["output_tokens"]) == ("success", "estimated", 4)
    assert row["flags"] == ["usage_unreadable"]
    assert row["charge"] == charge(RATES, row) > 0


@pytest.mark.parametrize("usage", UNTRUE.values(), ids=UNTRUE.keys())
def test_an_answer_is_counted_where_its_report_can_not_be_true(scene: Scene, usage: str) -> None:
    choices = json.dumps([{"index": 0, "message": {"content": TEXT}}])
    whole = f'{{"choices":{choices},"usage":{usage}}}'.encode()
    scene.upstream.answer(body=whole)

    answer = scene.post(scene.chat())

    assert (answer.status_code, answer.content) == (200, whole)
    assert_counted(scene.row())


@pytest.mark.parametrize("usage", UNTRUE.values(), ids=UNTRUE.keys())
def test_a_stream_is_counted_where_its_report_can_not_be_true(scene: Scene, usage: str) -> None:
    report = f'data: {{"choices":[],"usage":{usage}}}\n\n'.encode()
    scene.upstream.stream([*WORDS, report, "[DONE]"])

    answer = scene.post(scene.chat(stream=True))

    assert answer.content == b"".join(map(sse, [*WORDS, "[DONE]"])), "the report was asked for by us"
    assert_counted(scene.row())


def test_counts_that_go_down_in_a_stream_stand_at_their_largest(scene: Scene) -> None:
    told = [{"prompt_tokens": 30, "completion_tokens": 40}, {"prompt_tokens": 31, "completion_tokens": 4}]
    scene.upstream.stream([*({**word, "usage": usage} for word, usage in zip(WORDS, told, strict=False)), "[DONE]"])

    scene.post(scene.chat(stream=True))

    row = scene.row()
    assert (row["usage_source"], row["input_tokens"], row["output_tokens"]) == ("provider", 31, 40)
    assert row["flags"] == ["usage_shrank"]
    assert row["charge"] == charge(RATES, row)


def test_the_last_of_the_reports_that_grow_is_billed(scene: Scene) -> None:
    told = [{"prompt_tokens": 30, "completion_tokens": n} for n in range(1, 5)]
    scene.upstream.stream([*({**word, "usage": usage} for word, usage in zip(WORDS, told, strict=True)), "[DONE]"])

    scene.post(scene.chat(stream=True))

    assert (scene.row()["input_tokens"], scene.row()["output_tokens"], scene.row()["flags"]) == (30, 4, None)


@pytest.mark.parametrize(
    "parts",
    [{"prompt_tokens_details": {"cached_tokens": 500}}, {"completion_tokens_details": {"reasoning_tokens": 500}}],
    ids=["cached", "reasoning"],
)
def test_a_part_beyond_its_whole_is_billed_as_the_whole_and_flagged(scene: Scene, parts: dict[str, Any]) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 10, **parts}
    scene.upstream.answer(json={"choices": [{"message": {"content": TEXT}}], "usage": usage})

    scene.post(scene.chat())

    row = scene.row()
    assert (row["usage_source"], row["input_tokens"], row["output_tokens"], row["flags"]) == ("provider", 10, 10, ["usage_inconsistent"])
    whole = row | {"cache_read_tokens": min(row["cache_read_tokens"], 10), "reasoning_tokens": min(row["reasoning_tokens"], 10)}
    assert row["charge"] == charge(RATES, whole) > 0


def test_an_error_bills_nothing_whatever_it_reports(scene: Scene) -> None:
    scene.upstream.answer(json={"error": {"message": "no"}, "usage": {"prompt_tokens": 9, "completion_tokens": 9}}, status=400)

    assert scene.post(scene.chat()).status_code == 400
    assert (scene.row()["status"], scene.row()["usage_source"], scene.row()["bill"]) == ("failed", "none", 0)


def test_an_error_in_mid_stream_is_billed_by_the_usage_that_it_reports(scene: Scene) -> None:
    error = {"error": {"message": "no"}, "usage": {"prompt_tokens": 30, "completion_tokens": 2}}
    scene.upstream.stream([*WORDS[:2], error])

    scene.post(scene.chat(stream=True))

    row = scene.row()
    assert (row["status"], row["usage_source"], row["input_tokens"], row["output_tokens"]) == ("failed", "provider", 30, 2)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("output", "believed"), [(10_000, True), (10_001, False)])
def test_counts_beyond_ten_times_the_models_context_are_not_believed(
    new_scene: Callable[..., Scene], db: Database, admin: Admin, stream: bool, output: int, believed: bool
) -> None:
    scene = new_scene()
    db.execute("UPDATE aigcspace.model SET context_tokens = 1000 WHERE name = $1", scene.model)
    admin.set_price(scene.model, RATES)  # a change that the proxy hears of
    usage = {"prompt_tokens": 9, "completion_tokens": output}
    if stream:
        scene.upstream.stream([*WORDS, {"choices": [], "usage": usage}, "[DONE]"])
    else:
        scene.upstream.answer(json={"choices": [{"message": {"content": TEXT}}], "usage": usage})

    scene.post(scene.chat(stream=stream))

    if believed:
        assert (scene.row()["usage_source"], scene.row()["output_tokens"], scene.row()["flags"]) == ("provider", output, None)
    else:
        assert_counted(scene.row())
