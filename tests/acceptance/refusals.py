"""What every refusal has in common: OpenAI's envelope for the caller, and one free failed row or none in the ledger."""

import time
from typing import Any

import httpx

from tests.harness.scene import Scene


def assert_envelope(answer: httpx.Response, status: int, code: str | None = None) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    assert set(answer.json()) == {"error"}
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert len(error["message"].split()) >= 3, "a message says what to do"
    assert isinstance(error["type"], str)
    assert isinstance(error["code"], str)
    if code is not None:
        assert error["code"] == code
    assert answer.headers["x-request-id"]
    return dict(error)


def assert_one_free_failed_row(scene: Scene, status: int) -> None:
    row = scene.row()
    assert (row["status"], row["bill"], row["charge"] or 0, row["http_status"]) == ("failed", 0, 0, status)
    assert row["error_message"]


def no_row(scene: Scene) -> None:
    time.sleep(0.3)
    assert scene.rows() == []
