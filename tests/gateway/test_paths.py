"""Where clients call, however they put their paths together."""

import pytest

from app.gateway.protocols import PROTOCOLS, Asked
from app.gateway.protocols.paths import Paths

PATHS = Paths(PROTOCOLS)


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.path)
def test_the_documented_path_is_found_at_once(protocol) -> None:
    assert PATHS.exact(protocol.path) is protocol


@pytest.mark.parametrize(
    ("path", "api", "model"),
    [
        ("/chat/completions", "chat.completions", None),
        ("/v1/v1/chat/completions", "chat.completions", None),
        ("/v1beta/openai/chat/completions", "chat.completions", None),
        ("/openai/v1/responses", "responses", None),
        ("/openai/deployments/gpt-4o/chat/completions", "chat.completions", "gpt-4o"),
        ("/openai/deployments/my-embedder/embeddings", "embeddings", "my-embedder"),
        ("/messages", "messages", None),
        ("/v1/messages/count_tokens", "messages.count_tokens", None),
        ("/v1beta/models/gemini-2.5-pro:generateContent", "generateContent", "gemini-2.5-pro"),
        ("/v1/models/gemini-2.5-pro:generateContent", "generateContent", "gemini-2.5-pro"),
        ("/v1beta/models/vendor/llama3:8b:streamGenerateContent", "generateContent", "vendor/llama3:8b"),
        ("/v1alpha/models/e:batchEmbedContents", "embedContent", "e"),
    ],
)
def test_a_path_is_found_where(path: str, api: str, model: str | None) -> None:
    found = PATHS.find(path, b"")

    assert found is not None
    assert (found[0].api, found[1].model) == (api, model)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v1/chat",
        "/v1/chat/completions/",
        "//v1/chat/completions",
        "/v2/chat/completions",
        "/v1/models/x:unknown",
        "/x/openai/v1/responses",
    ],
)
def test_no_other_path_is(path: str) -> None:
    assert PATHS.find(path, b"") is None


@pytest.mark.parametrize("path", ["/v1/messages", "/messages", "/openai/deployments/m/chat/completions"])
def test_the_mark_of_beta_calls_goes_on(path: str) -> None:
    found = PATHS.find(path, b"beta=true&key=secret")

    assert found is not None
    assert found[1].query == "beta=true"


def test_of_a_query_only_the_form_of_the_stream_goes_on() -> None:
    found = PATHS.find("/v1beta/models/m:streamGenerateContent", b"key=secret&alt=sse&%24fields=x")

    assert found is not None
    assert found[1] == Asked(model="m", query="alt=sse")
