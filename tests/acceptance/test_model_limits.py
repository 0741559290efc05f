"""The operator's REST for what bounds a model's calls, and what becomes of it."""

import secrets
from collections.abc import Callable
from decimal import Decimal

import httpx
import pytest

from tests.harness.admin import Admin
from tests.harness.proxy import Proxy
from tests.harness.scene import Scene


@pytest.fixture
def model() -> str:
    return f"vendor/model-{secrets.token_hex(4)}:8b"


def test_limits_from_first_to_last(admin: Admin, model: str) -> None:
    path = f"/admin/models/{model}"
    made = admin.ask("PUT", path, json={"context_tokens": 128000, "max_output_tokens": 4096})
    assert (made["name"], made["context_tokens"], made["max_output_tokens"]) == (model, 128000, 4096)
    assert admin.ask("GET", path) == made
    assert made in admin.listed("/admin/models", limit=1)
    changed = admin.ask("PATCH", path, json={"max_output_tokens": None})
    assert changed == made | {"max_output_tokens": None}
    assert admin.ask("PATCH", path, json={}) == changed
    assert admin.ask("PUT", path, json={"max_output_tokens": 5}) == made | {"context_tokens": None, "max_output_tokens": 5}


def test_a_model_that_an_upstream_names_has_its_limits_set_where_it_is(scene: Scene, admin: Admin) -> None:
    before = admin.ask("GET", f"/admin/models/{scene.model}")
    after = admin.ask("PUT", f"/admin/models/{scene.model}", json={"context_tokens": 1000})
    assert after == before | {"context_tokens": 1000}


@pytest.mark.parametrize("wrong", [{"context_tokens": 0}, {"context_tokens": "9"}, {"max_output_tokens": 2**31}, {"tokens": 1}, [], None])
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_limits_that_make_no_sense(admin: Admin, model: str, method: str, wrong: object) -> None:
    assert admin.http.request(method, f"/admin/models/{model}", json=wrong).status_code == 422


def test_a_model_that_is_not_there(admin: Admin, model: str) -> None:
    for method in ("GET", "PATCH"):
        answer = admin.http.request(method, f"/admin/models/{model}", **({"json": {}} if method == "PATCH" else {}))
        assert (answer.status_code, answer.json()["code"]) == (404, "model_not_found")


def test_limits_are_those_of_one_model(admin: Admin) -> None:
    assert admin.http.put("/admin/models/vendor/*", json={"context_tokens": 1}).status_code == 422


def test_none_without_the_admin_token(proxy: Proxy) -> None:
    assert httpx.get(f"{proxy.url}/admin/models", trust_env=False).status_code == 401


def test_the_most_that_a_model_answers_is_what_is_held(new_scene: Callable[..., Scene], admin: Admin) -> None:
    scene = new_scene(credit="0.01", rates={"input": "0", "output": "10"})
    admin.ask("PUT", f"/admin/models/{scene.model}", json={"max_output_tokens": 900})

    answer = scene.post(scene.chat())

    assert (answer.status_code, "x-max-tokens-applied" in answer.headers) == (200, False)
    admin.ask("PATCH", f"/admin/models/{scene.model}", json={"max_output_tokens": 5000})
    assert int(scene.post(scene.chat()).headers["x-max-tokens-applied"]) <= Decimal("0.01") / 10 * 1_000_000
