"""With `ADMIN_PORT`, what operators use is served there alone, and what clients use at the other."""

from collections.abc import Callable

import httpx
import pytest

from tests.harness.proxy import Proxy, free_port

OF_OPERATORS = ("/admin/users", "/logs", "/logs/stats", "/docs", "/openapi.json", "/nothing")
OF_CLIENTS = ("/v1/models", "/v1/key", "/models", "/v1beta/models", "/dashboard/billing/usage")
EVERYWHERE = ("/healthz", "/readyz")


@pytest.fixture(scope="module")
def admin_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def proxy(proxies: Callable[..., Proxy], admin_port: int) -> Proxy:
    return proxies(ADMIN_PORT=str(admin_port))


def test_each_port_serves_its_own(proxy: Proxy, admin_port: int) -> None:
    def found(port: int, path: str) -> bool:
        answer = httpx.get(f"http://127.0.0.1:{port}{path}", trust_env=False)
        return "another port" not in answer.text

    assert [path for path in (*OF_OPERATORS, *OF_CLIENTS, *EVERYWHERE) if found(proxy.port, path)] == [*OF_CLIENTS, *EVERYWHERE]
    assert [path for path in (*OF_OPERATORS, *OF_CLIENTS, *EVERYWHERE) if found(admin_port, path)] == [*OF_OPERATORS, *EVERYWHERE]
    assert f":{admin_port}/docs" in proxy.output()
