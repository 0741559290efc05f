"""Every recorded exchange of `../shared/wire/cases.jsonl`, played by the stand-in: the client gets the recorded bytes
unchanged, however they were cut on the way, and the row holds the five counts that the provider reported.

A model is offered as `<case>/<recorded name>`: names with slashes, dots and colons go through pricing and routing too.
"""

import json
import random
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.harness.answers import Split
from tests.harness.books import bills, charge
from tests.harness.scene import Scene

RECORDED = Path(__file__).resolve().parents[2] / ".." / "shared" / "wire" / "cases.jsonl"
APIS = {
    "chat.completions": "/v1/chat/completions",
    "embeddings": "/v1/embeddings",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
}
COUNTS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
RATES = {"input": "3", "output": "15", "cache_read": "0.3", "cache_write": "3.75", "reasoning": "12.5"}
PLANT = "INSERT INTO aigcspace.upstream_object (object_id, user_id, upstream_id, request_id) VALUES ($1, $2, $3, $4)"
"""Whose it is that a case refers to."""
Case = dict[str, Any]


def load() -> list[Case]:
    if not RECORDED.exists():
        return []
    lines = RECORDED.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


CASES = load()
if not CASES:
    pytest.skip(f"no recorded exchanges at {RECORDED}", allow_module_level=True)
STREAMED = [case for case in CASES if case["stream"]]
SHORTEST = sorted(STREAMED, key=lambda case: len(case["response"]))[:2]


def play(case: Case, new_scene: Callable[..., Scene], split: Split | None = None) -> Scene:
    """Sends the recorded request; the stand-in answers with the recorded bytes, which must come back as they are."""
    public = f"{case['id']}-{random.randrange(10**9)}/{case['model']}"
    path, prefix = path_of(case, public), case["path"].partition("/models/")[0]
    if case["api"] in APIS:
        prefix = case["path"].removesuffix(path.removeprefix("/v1"))
    scene = new_scene(model=public, upstream_model=case["model"], rates=RATES, base_path=prefix, stream_usage="native", credit="1000")
    for object_id in filter(None, (case["request"].get(name) for name in ("conversation", "previous_response_id"))):
        scene.db.execute(PLANT, object_id, scene.user, scene.upstream_id, uuid4())
    recorded = case["response"].encode()
    headers = {"content-type": case["content_type"]}
    if case["stream"]:
        scene.upstream.stream([recorded], status=case["status"], split=split, gap=0.0005, content_type=case["content_type"])
    else:
        scene.upstream.answer(body=recorded, status=case["status"], headers=headers, always=case["status"] >= 400)

    answer = scene.post(request_of(case, public), path)

    assert answer.status_code == case["status"], answer.text
    assert answer.content == recorded
    assert answer.headers["content-type"] == case["content_type"]
    return scene


def path_of(case: Case, model: str) -> str:
    """Where clients call the proxy. Gemini's name the model there."""
    if case["api"] in APIS:
        return APIS[case["api"]]
    return f"/v1beta/models/{model}:" + ("streamGenerateContent?alt=sse" if case["stream"] else "generateContent")


def request_of(case: Case, model: str) -> dict[str, Any]:
    """The recorded request under our model name. Its long strings were cut when it was recorded, so that it would look
    too small for the input that the provider counted: a long message makes up for what is missing."""
    request = dict(case["request"]) | ({"model": model} if case["api"] in APIS else {})
    missing = "x" * 8 * (case["usage"] or {}).get("input_tokens", 0)
    said = {"role": "user", "content": missing}
    if "messages" in request:
        request["messages"] = [*request["messages"], said]
    elif "contents" in request:
        request["contents"] = [*request["contents"], {"role": "user", "parts": [{"text": missing}]}]
    elif isinstance(request.get("input"), list) and case["api"] == "responses":
        request["input"] = [*request["input"], said]
    elif case["api"] == "responses":
        request["input"] = request["input"] + missing
    return request


def assert_row_tells_the_truth(case: Case, scene: Scene) -> None:
    row = scene.row()
    if case["usage"] is not None:
        assert {name: row[name] for name in COUNTS} == case["usage"]
        assert (row["status"], row["usage_source"]) == ("success", "provider")
    elif case["status"] >= 400:
        assert (row["status"], row["charge"], row["http_status"]) == ("failed", 0, case["status"])
        assert [row[name] or 0 for name in COUNTS] == [0] * 5
    else:
        assert row["usage_source"] == "estimated"
        assert row["output_tokens"] > 0
    assert row["charge"] == charge(RATES, row)
    assert row["bill"] == bills([row["charge"]])[0]
    assert row["model_name"] == scene.model
    assert (row["upstream_model"], row["is_stream"], row["api"]) == (case["model"], bool(case["stream"]), case["api"])
    assert (row["write_off"] or Decimal(0)) == 0


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_recorded_bytes_come_back_and_recorded_counts_are_billed(case: Case, new_scene: Callable[..., Scene]) -> None:
    scene = play(case, new_scene)

    assert_row_tells_the_truth(case, scene)
    received = scene.upstream.requests[0]
    assert received.path == (case["path"] if "/v" in case["path"] else "/v1" + case["path"])  # DeepSeek takes either
    assert received.query == ({"alt": "sse"} if case["stream"] and case["api"] == "generateContent" else {})
    assert received.json == request_of(case, case["model"])


@pytest.mark.parametrize("case", STREAMED, ids=lambda case: case["id"])
def test_streams_may_be_cut_anywhere(case: Case, new_scene: Callable[..., Scene]) -> None:
    dice = random.Random(case["id"])
    length = len(case["response"].encode())
    cuts = sorted(dice.sample(range(1, length), min(length // 8, 120)))

    assert_row_tells_the_truth(case, play(case, new_scene, split=cuts))


@pytest.mark.parametrize("case", SHORTEST, ids=lambda case: case["id"])
def test_streams_may_come_byte_by_byte(case: Case, new_scene: Callable[..., Scene]) -> None:
    assert_row_tells_the_truth(case, play(case, new_scene, split=1))
