"""The operator's REST for upstreams and prices, health, and its documentation."""

import re
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import httpx
import pytest

from tests.harness.admin import Admin
from tests.harness.postgres import Database
from tests.harness.proxy import Proxy
from tests.harness.scene import UPSTREAM_SECRET, Scene

ROUTES = """
    POST /v1/chat/completions, POST /v1/completions, POST /v1/embeddings, GET /v1/models, GET /v1/key, GET /healthz,
    GET /readyz, POST /admin/users, GET /admin/users, GET /admin/users/{}, PATCH /admin/users/{},
    DELETE /admin/users/{}, POST /admin/users/{}/credits, GET /admin/users/{}/credits, POST /admin/keys,
    GET /admin/keys, GET /admin/keys/{}, PATCH /admin/keys/{}, DELETE /admin/keys/{}, POST /admin/keys/{}/rotate,
    POST /admin/upstreams, GET /admin/upstreams, GET /admin/upstreams/{}, PATCH /admin/upstreams/{},
    DELETE /admin/upstreams/{}, GET /admin/prices, PUT /admin/prices/{}, GET /admin/models, GET /admin/models/{}, PUT /admin/models/{},
    PATCH /admin/models/{}, GET /logs, GET /logs/{}
"""


@pytest.fixture
def name() -> str:
    return f"name-{secrets.token_hex(4)}"


def test_an_upstreams_secret_is_never_shown_and_stored_encrypted(scene: Scene, admin: Admin, db: Database) -> None:
    path = f"/admin/upstreams/{scene.upstream_id}"

    assert UPSTREAM_SECRET not in str(admin.ask("GET", path))
    assert UPSTREAM_SECRET not in str(admin.listed("/admin/upstreams"))
    changed = admin.ask("PATCH", path, json={"api_key": "a-new-upstream-secret"})
    assert "a-new-upstream-secret" not in str(changed)
    assert b"a-new-upstream-secret" not in db.value("SELECT secret FROM aigcspace.upstream WHERE id = $1", scene.upstream_id)
    assert scene.post(scene.chat()).status_code == 200
    assert scene.upstream.requests[0].header("authorization") == "Bearer a-new-upstream-secret"


def test_a_disabled_upstream_gets_no_calls(scene: Scene, admin: Admin) -> None:
    admin.ask("DELETE", f"/admin/upstreams/{scene.upstream_id}")

    assert scene.post(scene.chat()).status_code in (404, 503)
    assert scene.upstream.requests == []


def test_a_wildcard_upstream_serves_what_has_a_price(scene: Scene, admin: Admin, name: str) -> None:
    admin.add_upstream(name, f"{scene.upstream.url}/v1", [f"{name}/*"])
    admin.set_price(f"{name}/some:model", {"input": "1", "output": "1"})

    assert scene.post(scene.chat() | {"model": f"{name}/some:model"}).status_code == 200
    assert (scene.row()["model_name"], scene.row()["model_id"]) == (f"{name}/some:model", None)
    assert scene.upstream.requests[0].json["model"] == f"{name}/some:model"
    assert scene.post(scene.chat() | {"model": f"{name}/unpriced"}).status_code in (400, 403, 404)
    assert len(scene.upstream.requests) == 1


@pytest.mark.parametrize(
    ("base_path", "arrives"),
    [
        ("", "/v1/embeddings"),
        ("/v1", "/v1/embeddings"),
        ("/v1/", "/v1/embeddings"),
        ("/openai/v1", "/openai/v1/embeddings"),
        ("/api/paas/v4", "/api/paas/v4/embeddings"),
    ],
)
def test_base_urls_are_taken_as_people_have_them(new_scene: Callable[..., Scene], base_path: str, arrives: str) -> None:
    scene = new_scene(base_path=base_path)

    assert scene.post({"model": scene.model, "input": "hi"}, "/v1/embeddings").status_code == 200
    assert scene.upstream.requests[0].target == arrives


@pytest.mark.parametrize("wrong", [{"base_url": "ftp://host"}, {"base_url": "host"}, {"stream_usage": "perhaps"}, {"models": 3}])
def test_an_upstream_that_makes_no_sense(admin: Admin, name: str, wrong: dict[str, object]) -> None:
    body = {"name": name, "base_url": "http://127.0.0.1:9/v1", "models": ["*"]} | wrong

    assert admin.http.post("/admin/upstreams", json=body).status_code == 422


@pytest.mark.parametrize("model", ["openai/gpt-oss-120b", "llama3:8b", "a/b/c:free", "gpt-4.1", "models with space"])
def test_prices_for_all_kinds_of_names(admin: Admin, name: str, model: str) -> None:
    admin.set_price(f"{name}/{model}", {"input": "0.15", "output": "0.60", "cache_read": "0.075"})

    [price] = [price for price in admin.listed("/admin/prices") if price["model"] == f"{name}/{model}"]
    assert {meter: Decimal(rate) for meter, rate in price["rates"].items()} == {
        "input": Decimal("0.15"), "output": Decimal("0.6"), "cache_read": Decimal("0.075"),
    }  # fmt: skip


def test_a_price_of_the_future_is_not_used_yet_and_the_last_one_holds(scene: Scene, admin: Admin) -> None:
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    admin.set_price(scene.model, {"input": "1000", "output": "1000"}, effective_from=tomorrow)
    admin.set_price(scene.model, {"input": "1", "output": "0"})

    assert scene.post(scene.chat("one two three")).status_code == 200
    assert scene.row()["charge"] == Decimal(scene.upstream.ledger[0].input) / 1_000_000


@pytest.mark.parametrize(
    "rates", [{}, {"input": "-1"}, {"input": "NaN"}, {"input": "1e30"}, {"inptu": "1"}, {"input": "x"}, {"input": "5_0"}, None]
)
def test_a_price_that_makes_no_sense(admin: Admin, name: str, rates: object) -> None:
    assert admin.http.put(f"/admin/prices/{name}", json={"rates": rates}).status_code == 422


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_that_is_too_large_is_told_as_a_problem(admin: Admin, declared: bool) -> None:
    body = b'{"id": "' + b"x" * 2_000_000 + b'"}'
    answer = admin.http.post("/admin/users", content=body if declared else iter([body]))

    assert (answer.status_code, answer.headers["content-type"]) == (413, "application/problem+json")
    assert answer.json()["code"] == "body_too_large"


def test_health(proxy: Proxy) -> None:
    for path in ("/healthz", "/readyz"):
        assert httpx.get(f"{proxy.url}{path}", trust_env=False).status_code == 200


def test_openapi_documents_every_route_with_examples(proxy: Proxy) -> None:
    paths = httpx.get(f"{proxy.url}/openapi.json", trust_env=False, timeout=60).json()["paths"]
    documented = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    anonymous = {re.sub(r"{[^}]*}", "{}", route) for route in documented}
    assert {route.strip() for route in ROUTES.split(",")} - anonymous == set()
    for path, methods in paths.items():
        for method, operation in methods.items():
            assert operation.get("summary"), f"{method} {path} says what it does"
            if "requestBody" in operation:
                assert "example" in str(operation["requestBody"]) or _refers_to_example(proxy, operation), f"{method} {path}"


def _refers_to_example(proxy: Proxy, operation: dict[str, dict[str, object]]) -> bool:
    schemas = httpx.get(f"{proxy.url}/openapi.json", trust_env=False, timeout=60).json()["components"]["schemas"]
    names = [part.split("'")[0] for part in str(operation["requestBody"]).split("#/components/schemas/")[1:]]
    return any("example" in str(schemas[one]) for one in names)
