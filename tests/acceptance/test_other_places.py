"""Calls at the paths that clients put together: without the version, with two, and Azure's, whose path names the model and
whose key has a header of its own."""

import httpx
import openai
import pytest

from tests.harness.scene import Scene
from tests.harness.tls import NO_TLS


@pytest.mark.parametrize(
    "path", ["/chat/completions", "/v1/v1/chat/completions", "/v1beta/openai/chat/completions", "/openai/v1/chat/completions"]
)
def test_a_base_url_that_lacks_its_version_or_has_it_twice(scene: Scene, path: str) -> None:
    assert scene.post(scene.chat(), path).status_code == 200
    assert scene.upstream.requests[0].path == "/v1/chat/completions"
    assert scene.row()["api"] == "chat.completions"


def test_azures_client(scene: Scene) -> None:
    with httpx.Client(trust_env=False, verify=NO_TLS) as plain:
        client = openai.AzureOpenAI(
            api_key=scene.key, azure_endpoint=scene.proxy.url, api_version="2024-10-21", http_client=plain, max_retries=0
        )
        answer = client.chat.completions.create(model=scene.model, messages=[{"role": "user", "content": "hello"}])
        vectors = client.embeddings.create(model=scene.model, input="red green")

    assert answer.choices[0].message.content == "You said hello"
    assert len(vectors.data) == 1
    assert [(row["api"], row["model_name"]) for row in scene.rows()] == [("chat.completions", scene.model), ("embeddings", scene.model)]
    assert all(request.header("api-key") is None and request.query == {} for request in scene.upstream.requests)


@pytest.mark.parametrize("path", ["/v1/v1/models", "/openai/models?api-version=2024-10-21", "/v1alpha/models"])
def test_models_at_other_places(scene: Scene, path: str) -> None:
    assert scene.model in scene.http.get(path).text


def test_a_stream_tells_servers_between_not_to_buffer_it(scene: Scene) -> None:
    scene.upstream.stream(["[DONE]"], headers={"X-Accel-Buffering": "yes"})

    assert scene.post(scene.chat(stream=True)).headers.get_list("x-accel-buffering") == ["no"]
    assert "x-accel-buffering" not in scene.post(scene.chat()).headers
