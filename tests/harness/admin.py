"""An operator's hands: the admin REST of DESIGN.md section 7, a method an action. Each asserts that it worked; what
must not work goes through `Admin.http`."""

from typing import Any, Self
from urllib.parse import quote

import httpx

from tests.harness.proxy import ADMIN_TOKEN
from tests.harness.tls import NO_TLS


class Admin:
    def __init__(self, url: str, token: str = ADMIN_TOKEN) -> None:
        self.http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, trust_env=False, verify=NO_TLS, timeout=20)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def ask(self, method: str, path: str, **how: Any) -> Any:
        """The JSON of an answer that is a success."""
        answer = self.http.request(method, path, **how)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def listed(self, path: str, **params: Any) -> list[dict[str, Any]]:
        """All pages of it: tests that share a database make long lists."""
        found: list[dict[str, Any]] = []
        while True:
            page = self.ask("GET", path, params=params)
            found += page["data"]
            if page["next_cursor"] is None:
                return found
            params["cursor"] = page["next_cursor"]

    def add_user(self, user_id: str, **fields: Any) -> dict[str, Any]:
        return dict(self.ask("POST", "/admin/users", json={"id": user_id, **fields}))

    def user(self, user_id: str) -> dict[str, Any]:
        return dict(self.ask("GET", f"/admin/users/{quote(user_id, safe='')}"))

    def add_credit(self, user_id: str, amount: str, *, idempotency_key: str | None = None, **fields: Any) -> dict[str, Any]:
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        body = {"amount": amount, **fields}
        return dict(self.ask("POST", f"/admin/users/{user_id}/credits", json=body, headers=headers))

    def add_key(self, user_id: str, **fields: Any) -> dict[str, Any]:
        return dict(self.ask("POST", "/admin/keys", json={"user_id": user_id, **fields}))

    def add_upstream(self, name: str, base_url: str, models: Any, **fields: Any) -> dict[str, Any]:
        body = {"name": name, "base_url": base_url, "models": models, **fields}
        return dict(self.ask("POST", "/admin/upstreams", json=body))

    def set_price(self, model: str, rates: dict[str, str], **fields: Any) -> dict[str, Any]:
        return dict(self.ask("PUT", f"/admin/prices/{model}", json={"rates": rates, **fields}))

    def logs(self, **filters: Any) -> list[dict[str, Any]]:
        return self.listed("/logs", **filters)
