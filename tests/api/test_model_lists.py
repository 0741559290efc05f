"""The models that a key may use, as each protocol's own client reads them."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime

import anthropic
import httpx
import openai
import pytest
from google import genai
from google.genai import errors as google_errors
from google.genai import types as google_types

from app.catalog.routing import DatedPrice, Snapshot
from app.gateway.admission.admit import FREE
from tests.gateway.test_order import route
from tests.harness.scene import Scene
from tests.harness.tls import NO_TLS


@pytest.fixture
def named(scene: Scene) -> str:
    """A model whose name has slashes, a colon and a dot; the key may use no other."""
    name = f"vendor/{scene.model}/llama3.1:8b"
    scene.admin.add_upstream(f"of-{scene.model}", scene.upstream.url, [name])
    scene.admin.set_price(name, scene.rates)
    scene.admin.ask("PATCH", f"/admin/keys/{scene.key_id}", json={"models": [name]})
    return name


@pytest.fixture
def plain() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, verify=NO_TLS) as client:
        yield client


def test_a_model_exists_that_is_listed_and_the_names_are_put_in_order_once() -> None:
    one, dated = route(1), (DatedPrice(datetime(2020, 1, 1, tzinfo=UTC), FREE),)
    priced = dict.fromkeys(("own", "vendor/b", "vendor/a", "gone"), dated)
    snapshot = Snapshot(1, {}, {"own": (one,), "no price": (one,)}, (("vendor/", (one,)),), {}, priced)

    assert snapshot.model_names == ("no price", "own", "vendor/a", "vendor/b")
    assert snapshot.model_names is snapshot.model_names
    assert [name for name in (*priced, "no price", "vendor/", "vendor/c", "") if snapshot.has_model(name)] == [
        "own",
        "vendor/b",
        "vendor/a",
        "no price",
    ]


def test_openai(scene: Scene, named: str, plain: httpx.Client) -> None:
    client = openai.OpenAI(api_key=scene.key, base_url=f"{scene.proxy.url}/v1", http_client=plain, max_retries=0)

    assert [model.id for model in client.models.list()] == [named]
    assert client.models.retrieve(named).id == named
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no/such")


def test_anthropic(scene: Scene, named: str) -> None:
    with anthropic.Anthropic(api_key=scene.key, base_url=scene.proxy.url, max_retries=0) as client:
        assert [(model.id, model.type) for model in client.models.list()] == [(named, "model")]
        assert client.models.retrieve(named).display_name == named
        with pytest.raises(anthropic.NotFoundError) as unknown:
            client.models.retrieve("no/such")
    assert unknown.value.body["error"]["type"] == "not_found_error"  # type: ignore[index]


def test_gemini(scene: Scene, named: str) -> None:
    with closing(genai.Client(api_key=scene.key, http_options=google_types.HttpOptions(base_url=scene.proxy.url))) as client:
        assert [model.name for model in client.models.list(config={"query_base": True})] == [f"models/{named}"]
        assert client.models.get(model=f"models/{named}").display_name == named
        with pytest.raises(google_errors.ClientError) as unknown:
            client.models.get(model="models/no/such")
    assert (unknown.value.code, unknown.value.status) == (404, "NOT_FOUND")


@pytest.mark.parametrize("path", ["/models", "/openai/v1/models", "/v1beta/openai/models"])
def test_other_places(scene: Scene, named: str, path: str) -> None:
    assert [model["id"] for model in scene.http.get(path).json()["data"]] == [named]


@pytest.mark.parametrize(
    ("path", "headers", "kind"),
    [
        ("/v1/nothing", {}, "invalid_request_error"),
        ("/chat/nothing", {}, "invalid_request_error"),
        ("/v1/messages/nothing", {}, "not_found_error"),
        ("/v1/nothing", {"anthropic-version": "2023-06-01"}, "not_found_error"),
    ],
)
def test_an_unknown_path_is_answered_in_the_words_of_its_protocol(scene: Scene, path: str, headers: dict[str, str], kind: str) -> None:
    answer = scene.http.get(path, headers=headers)

    assert (answer.status_code, answer.json()["error"]["type"].replace("not_found_error", "not_found_error")) == (
        404,
        "not_found_error" if kind == "invalid_request_error" else kind,
    )
    assert ("type" in answer.json()) == (kind == "not_found_error")


def test_an_unknown_path_of_gemini(scene: Scene) -> None:
    answer = scene.http.post("/v1beta/nothing", json={})

    assert (answer.status_code, answer.json()["error"]["status"]) == (404, "NOT_FOUND")
