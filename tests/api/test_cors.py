"""Web pages of the origins that are set may call models from a browser, and may not do what operators do."""

from collections.abc import Callable

import httpx
import pytest

from tests.harness.proxy import Proxy
from tests.harness.scene import Scene

ORIGIN = "https://chat.example.com"
PREFLIGHT = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}


@pytest.fixture(scope="module")
def proxy(proxies: Callable[..., Proxy]) -> Proxy:
    return proxies(CORS_ORIGINS=f"{ORIGIN}, http://localhost:3000")


@pytest.mark.parametrize(
    "path",
    ["/v1/chat/completions", "/v1/messages", "/v1beta/models/m:generateContent", "/v1/key", "/v1/models", "/dashboard/billing/usage"],
)
def test_a_browser_is_told_that_it_may(scene: Scene, path: str) -> None:
    answer = httpx.options(f"{scene.proxy.url}{path}", headers=PREFLIGHT, trust_env=False)

    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "authorization" in answer.headers["access-control-allow-headers"].lower()


def test_a_page_reads_its_answer_and_the_call_s_id(scene: Scene) -> None:
    answer = scene.post(scene.chat(stream=True), headers={"Origin": ORIGIN})

    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "X-Request-ID" in answer.headers["access-control-expose-headers"]
    assert "x-request-id" in answer.headers


def test_another_page_may_not(scene: Scene) -> None:
    answer = httpx.options(
        f"{scene.proxy.url}/v1/chat/completions", headers=PREFLIGHT | {"Origin": "https://evil.example.com"}, trust_env=False
    )

    assert answer.status_code == 400
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("path", ["/admin/users", "/logs"])
def test_what_operators_do_stays_closed(scene: Scene, path: str) -> None:
    answer = httpx.options(f"{scene.proxy.url}{path}", headers=PREFLIGHT, trust_env=False)

    assert "access-control-allow-origin" not in answer.headers
