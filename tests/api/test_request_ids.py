"""Every answer under `/v1` carries `X-Request-ID`, whatever it is."""

from uuid import UUID

import httpx
import pytest

from tests.harness.scene import Scene


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/key", 200),
        ("GET", "/v1/models", 200),
        ("GET", "/v1/models/none", 404),
        ("GET", "/v1/nothing", 404),
        ("DELETE", "/v1/key", 405),
        ("POST", "/v1/chat/completions", 400),
    ],
)
def test_an_answer_has_an_id(scene: Scene, method: str, path: str, status: int) -> None:
    answer = scene.http.request(method, path)
    assert answer.status_code == status
    assert UUID(answer.headers["x-request-id"])


def test_a_refused_key_has_one_too(scene: Scene) -> None:
    refused = httpx.get(f"{scene.http.base_url}/v1/key".replace("//v1", "/v1"), trust_env=False)
    assert refused.status_code == 401
    assert UUID(refused.headers["x-request-id"])
