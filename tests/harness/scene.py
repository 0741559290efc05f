"""A scene: on a running proxy, one user with credit and a key, and one stand-in upstream with one priced model. Names
are unique, so that many tests share a proxy and a database without seeing each other."""

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import httpx

from app.catalog.keys import PREFIX_LENGTH
from tests.harness.admin import Admin
from tests.harness.books import wait_until
from tests.harness.postgres import Database
from tests.harness.proxy import Proxy
from tests.harness.tls import NO_TLS
from tests.standin import StandIn

RATES = {"input": "2.5", "output": "10", "cache_read": "0.25"}
UPSTREAM_SECRET = "upstream-secret-7c1d"
_USER_WITH_KEY = """
    WITH who AS (INSERT INTO aigcspace.users (id) VALUES ($1) RETURNING id),
        account AS (INSERT INTO aigcspace.account (user_id, credit) SELECT id, $2 FROM who),
        paid AS (INSERT INTO aigcspace.credit_entry (user_id, amount) SELECT id, $2 FROM who WHERE $2 <> 0),
        key AS (
            INSERT INTO aigcspace.platform_api_key (user_id, name, key_hash, key_prefix) SELECT id, 'test', $3, $4 FROM who RETURNING id
        ),
        policy AS (INSERT INTO aigcspace.key_policy (key_id) SELECT id FROM key),
        meter AS (INSERT INTO aigcspace.key_meter (key_id) SELECT id FROM key)
    SELECT id FROM key
"""
_FORGET = """
    WITH upstreams AS (DELETE FROM aigcspace.upstream WHERE id = $1)
    DELETE FROM aigcspace.model_price WHERE model_name = $2
"""
"""Each change of the catalog is followed by reading all of it: what a thousand scenes leave there costs the next one more than
all else."""


@dataclass
class Scene:
    proxy: Proxy
    admin: Admin
    db: Database
    upstream: StandIn
    upstream_id: int
    user: str
    key: str
    key_id: int
    model: str
    rates: dict[str, str]
    http: httpx.Client

    def chat(self, content: str = "hello there", **fields: Any) -> dict[str, Any]:
        """The body of a plain chat call."""
        return {"model": self.model, "messages": [{"role": "user", "content": content}], **fields}

    def post(self, body: Any = None, path: str = "/v1/chat/completions", **how: Any) -> httpx.Response:
        content = {"json": body} if body is not None else {}
        return self.http.post(path, **content, **how)

    def rows(self) -> list[dict[str, Any]]:
        return self.db.fetch("SELECT * FROM aigcspace.api_call_log WHERE user_id = $1 ORDER BY id", self.user)

    def row(self) -> dict[str, Any]:
        """The one row of the one call of this user, as soon as it is there."""
        wait_until(self.rows, what=f"a row of {self.user}")
        rows = self.rows()
        assert len(rows) == 1, rows
        return rows[0]

    def account(self) -> dict[str, Any]:
        return self.db.one("SELECT * FROM aigcspace.account WHERE user_id = $1", self.user)

    def known_to(self, proxy: Proxy, *, workers: int = 1) -> None:
        """Waits until a proxy that didn't take the operator's changes itself has heard of them. Of several workers all: they are
        asked over new connections, which any of them may take."""

        def offers() -> bool:
            answer = httpx.get(f"{proxy.url}/v1/models", headers=self.http.headers, trust_env=False, verify=NO_TLS, timeout=30)
            return self.model in [model["id"] for model in answer.raise_for_status().json()["data"]]

        asked = 1 if workers == 1 else 7 * workers
        wait_until(lambda: all(offers() for _ in range(asked)), what=f"{proxy.url} offers {self.model}")

    def assert_nothing_happened(self) -> None:
        """Nothing went upstream, nothing is held, nothing was billed."""
        assert self.upstream.requests == []
        assert self.db.value("SELECT count(*) FROM aigcspace.call_hold WHERE user_id = $1", self.user) == 0
        account = self.admin.user(self.user)
        assert Decimal(account["held"]) == Decimal(account["billed"]) == Decimal(account["spent"]) == 0


@contextmanager
def scene(
    proxy: Proxy,
    admin: Admin,
    db: Database,
    *,
    credit: str = "100",
    rates: dict[str, str] | None = None,
    model: str | None = None,
    upstream_model: str = "stand-in",
    base_path: str = "/v1",
    key_fields: dict[str, Any] | None = None,
    **upstream_fields: Any,
) -> Iterator[Scene]:
    mark = secrets.token_hex(4)
    user, model = f"user-{mark}", model or f"model-{mark}"
    rates = RATES if rates is None else rates
    with StandIn() as upstream:
        key, key_id = _user_with_key(db, user, Decimal(credit))
        if key_fields:
            admin.ask("PATCH", f"/admin/keys/{key_id}", json=key_fields)
        if rates:
            admin.set_price(model, rates)  # first, so that whoever knows the model knows its price too
        made = admin.add_upstream(
            f"upstream-{mark}",
            upstream.url + base_path,
            {model: upstream_model},
            **{"api_key": UPSTREAM_SECRET} | upstream_fields,
        )
        headers = {"Authorization": f"Bearer {key}"}
        with httpx.Client(base_url=proxy.url, headers=headers, trust_env=False, verify=NO_TLS, timeout=30) as http:
            yield Scene(proxy, admin, db, upstream, made["id"], user, key, key_id, model, rates, http)


def _user_with_key(db: Database, user: str, credit: Decimal) -> tuple[str, int]:
    """The key and its id. As a platform adds them, by SQL of its own: through the admin routes it takes a third of most tests' time."""
    key = "sk-" + secrets.token_urlsafe(32)
    return key, db.value(_USER_WITH_KEY, user, credit, hashlib.sha256(key.encode()).hexdigest(), key[:PREFIX_LENGTH])


@contextmanager
def passing_scene(proxy: Proxy, admin: Admin, db: Database, **wanted: Any) -> Iterator[Scene]:
    """On a proxy that others use after it: its upstream and its price go with it."""
    with scene(proxy, admin, db, **wanted) as made:
        yield made
    db.execute(_FORGET, made.upstream_id, made.model)


@contextmanager
def another_upstream(scene: Scene, **fields: Any) -> Iterator[tuple[int, StandIn]]:
    """One more that serves the scene's model, after the scene's own where `fields` don't say otherwise; and its id."""
    with StandIn() as upstream:
        made = scene.admin.add_upstream(
            f"upstream-{secrets.token_hex(4)}",
            f"{upstream.url}/v1",
            {scene.model: "stand-in"},
            **{"priority": 1, "api_key": "another"} | fields,
        )
        yield made["id"], upstream
