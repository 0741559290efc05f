"""What providers have and nobody has here is refused in the words of its protocol, with what to do instead, and never with a
status at which SDKs try again."""

import anthropic
import httpx
import httpx2
import openai
import pytest

from tests.harness.scene import Scene
from tests.harness.tls import NO_TLS

OPENAI = [
    ("POST", "/v1/files"),
    ("GET", "/v1/files/file-1/content"),
    ("POST", "/v1/uploads"),
    ("POST", "/v1/batches"),
    ("GET", "/v1/vector_stores/vs_1/files"),
    ("POST", "/v1/fine_tuning/jobs"),
    ("POST", "/v1/assistants"),
    ("POST", "/v1/threads/t_1/runs"),
    ("POST", "/v1/containers"),
    ("POST", "/v1/evals"),
    ("POST", "/v1/videos"),
    ("POST", "/v1/realtime/client_secrets"),
    ("POST", "/files"),
    ("POST", "/openai/files"),
    ("POST", "/openai/v1/batches"),
    ("POST", "/v1beta/openai/files"),
    ("DELETE", "/threads/t_1"),
]
GOOGLE = [
    ("POST", "/upload/v1beta/files"),
    ("GET", "/v1beta/files/abc"),
    ("POST", "/v1beta/cachedContents"),
    ("POST", "/v1beta/models/gemini-2.5-flash:batchGenerateContent"),
    ("POST", "/v1beta/models/embedder:asyncBatchEmbedContent"),
    ("GET", "/v1beta/batches/1"),
    ("GET", "/v1beta/tunedModels"),
]
ANTHROPIC = [("POST", "/v1/messages/batches"), ("GET", "/v1/messages/batches/b_1/results"), ("POST", "/v1/files"), ("GET", "/v1/skills")]


@pytest.mark.parametrize(("method", "path"), OPENAI)
def test_openai(scene: Scene, method: str, path: str) -> None:
    answer = scene.http.request(method, path)

    assert answer.status_code == 404
    assert (answer.json()["error"]["code"], answer.json()["error"]["type"]) == ("unsupported", "not_found_error")
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize(("method", "path"), GOOGLE)
def test_google(scene: Scene, method: str, path: str) -> None:
    answer = scene.http.request(method, path)

    assert answer.status_code == 404
    error = answer.json()["error"]
    assert (error["status"], error["details"][0]["reason"]) == ("NOT_FOUND", "UNSUPPORTED")


@pytest.mark.parametrize(("method", "path"), ANTHROPIC)
def test_anthropic(scene: Scene, method: str, path: str) -> None:
    answer = scene.http.request(method, path, headers={"anthropic-version": "2023-06-01"})

    assert answer.status_code == 404
    assert (answer.json()["type"], answer.json()["error"]["type"]) == ("error", "not_found_error")
    assert "here" in answer.json()["error"]["message"]


def test_official_clients_are_told_once(scene: Scene) -> None:
    """With retries as they come: none is made."""
    with httpx.Client(trust_env=False, verify=NO_TLS) as plain, httpx2.Client(trust_env=False, verify=False) as other:
        client = openai.OpenAI(api_key=scene.key, base_url=f"{scene.proxy.url}/v1", http_client=plain)
        claude = anthropic.Anthropic(api_key=scene.key, base_url=scene.proxy.url, http_client=other)
        with pytest.raises(openai.NotFoundError, match="Files are not kept here"):
            client.files.create(file=b"{}", purpose="batch")
        with pytest.raises(anthropic.NotFoundError, match="Batches are not taken here"):
            claude.messages.batches.list()
    scene.assert_nothing_happened()


def test_a_model_of_such_a_name_is_a_model(scene: Scene) -> None:
    assert scene.http.get("/v1/models/files").json()["error"]["code"] == "model_not_found"
