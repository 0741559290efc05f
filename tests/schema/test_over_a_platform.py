"""The proxy over the database of a platform that was there first: its keys, users and rows are worked with as they are."""

import hashlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.harness.admin import Admin
from tests.harness.books import wait_until
from tests.harness.fault_books import assert_audit
from tests.harness.postgres import Database, Databases
from tests.harness.proxy import Proxy
from tests.harness.tls import NO_TLS
from tests.schema import platform
from tests.schema.catalog import unmigrated
from tests.standin import StandIn

ZONE = "Asia/Shanghai"
MODEL = "stand-in"
OLD_ROW = """
    INSERT INTO aigcspace.api_call_log
        (user_id, api_key_id, model_name, is_local, input_tokens, output_tokens, bill, status, created_at)
    VALUES ('u7', 7, 'gpt-4o', false, 5, 6, 1.5, 'success', '2026-03-01 08:30:00')
"""
"""Written by the platform in its local time, before this service."""


@dataclass
class Platform:
    db: Database
    proxy: Proxy
    admin: Admin
    http: httpx.Client

    def call(self, key: str, path: str = "/v1/chat/completions") -> httpx.Response:
        body = {"model": MODEL, "messages": [{"role": "user", "content": "hello there"}]}
        return self.http.post(path, json=body, headers={"Authorization": f"Bearer {key}"})

    def rows(self, user: str) -> list[dict[str, Any]]:
        found = "SELECT * FROM aigcspace.api_call_log WHERE user_id = $1 AND request_id IS NOT NULL ORDER BY id"
        wait_until(lambda: self.db.fetch(found, user), what=f"a row of {user}")
        return self.db.fetch(found, user)

    def add_user(self) -> tuple[str, str, int]:
        """As the platform's own program does: the user, the key and its id."""
        user, key = f"p-{secrets.token_hex(4)}", f"sk-platform-{secrets.token_hex(12)}"
        self.db.execute("INSERT INTO aigcspace.users (id, email, name) VALUES ($1, $2, 'new')", user, f"{user}@example.org")
        insert = "INSERT INTO aigcspace.platform_api_key (user_id, api_key) VALUES ($1, $2) RETURNING id"
        return user, key, self.db.value(insert, user, key)


@pytest.fixture(scope="module")
def there(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    place = tmp_path_factory.mktemp("platform")
    with unmigrated(databases) as db, StandIn() as upstream:
        platform.build(db)
        db.execute(OLD_ROW)
        proxy = Proxy(
            database_url=db.url,
            directory=place,
            PLATFORM_KEY_COLUMN="api_key",
            LOG_TIME_ZONE=ZONE,
            DEFAULT_CREDIT="10",
            LOG_LEVEL="debug",
        ).wait_ready()
        with (
            Admin(proxy.url) as admin,
            httpx.Client(base_url=proxy.url, trust_env=False, verify=NO_TLS, timeout=30) as http,
        ):
            admin.set_price(MODEL, {"input": "2.5", "output": "10"})
            admin.add_upstream("stand-in", upstream.url + "/v1", [MODEL])
            yield Platform(db, proxy, admin, http)
        output = proxy.output()
        assert proxy.stop() == 0, output
        assert_audit(db)
        assert "sk-platform" not in output


def test_a_key_of_the_platforms_is_billed_to_its_user(there: Platform) -> None:
    assert there.call("sk-platform-3").status_code == 200

    [row] = there.rows("u3")
    assert (row["api_key_id"], row["status"], row["region"]) == (3, "success", "cn")
    assert row["charge"] > 0
    user = there.admin.user("u3")
    assert Decimal(user["available"]) == 10 - row["charge"]
    here = there.db.value(f"SELECT clock_timestamp() AT TIME ZONE '{ZONE}'")
    assert abs((here - row["created_at"]).total_seconds()) < 600, "in the platform's time"
    assert there.http.get("/v1/key", headers={"Authorization": "Bearer sk-platform-3"}).json()["user_id"] == "u3"


def test_what_the_platform_inserts_works_at_once(there: Platform) -> None:
    assert there.call("sk-platform-late").status_code == 401
    user, key, key_id = there.add_user()

    assert there.call(key).status_code == 200
    assert [row["api_key_id"] for row in there.rows(user)] == [key_id]
    digest = hashlib.sha256(key.encode()).hexdigest()
    assert there.call(digest).status_code == 401, "the hash is no key"


@pytest.mark.parametrize(
    "ending",
    [
        "UPDATE aigcspace.platform_api_key SET api_key = 'another-' || id WHERE id = $1",
        "DELETE FROM aigcspace.platform_api_key WHERE id = $1",
    ],
)
def test_a_key_that_the_platform_takes_back_is_refused_at_once(there: Platform, ending: str) -> None:
    _, key, key_id = there.add_user()
    assert there.call(key).status_code == 200
    there.db.execute(ending, key_id)
    assert there.call(key).status_code == 401


def test_a_rotated_key_has_a_secret_made_here_and_no_other(there: Platform) -> None:
    _, key, key_id = there.add_user()
    assert there.call(key).status_code == 200
    rotated = there.admin.ask("POST", f"/admin/keys/{key_id}/rotate")
    assert there.call(key).status_code == 401
    assert there.call(rotated["key"]).status_code == 200


def test_a_disabled_key_and_limits_hold_for_the_platforms_keys(there: Platform) -> None:
    _, key, key_id = there.add_user()
    there.admin.ask("PATCH", f"/admin/keys/{key_id}", json={"models": ["another"]})
    assert there.call(key).status_code == 403
    there.admin.ask("DELETE", f"/admin/keys/{key_id}")
    assert there.call(key).status_code == 401


def test_logs_show_the_platforms_rows_in_utc(there: Platform) -> None:
    [old] = there.admin.logs(user_id="u7", created_from="2026-03-01T00:30:00Z", created_to="2026-03-01T00:30:01Z")
    assert (old["created_at"], old["request_id"], old["charge"], old["bill"]) == ("2026-03-01T00:30:00Z", None, None, "1.5000")

    assert there.call("sk-platform-8").status_code == 200
    there.rows("u8")
    own = there.http.get("/logs", headers={"Authorization": "Bearer sk-platform-8"}).json()["data"]
    assert own[0]["request_id"] is not None
    assert {row["api_key_id"] for row in own} == {8}
    assert own[-1]["request_id"] is None, "what the platform itself has written is there too"


@pytest.mark.parametrize(
    ("path", "body", "column"),
    [("/admin/users", {"id": "made-here", "name": "n"}, "email"), ("/admin/keys", {"user_id": "u1"}, "api_key")],
)
def test_a_column_that_only_the_platform_can_fill_is_named(there: Platform, path: str, body: dict[str, str], column: str) -> None:
    refused = there.admin.http.post(path, json=body)
    assert (refused.status_code, refused.json()["code"]) == (409, "column_required")
    assert f"column '{column}'" in refused.json()["detail"]
    assert there.db.value("SELECT count(*) FROM aigcspace.account WHERE user_id = 'made-here'") == 0


def test_the_audit_counts_this_services_rows_alone(there: Platform) -> None:
    assert there.call("sk-platform-9").status_code == 200
    assert there.db.value("SELECT count(*) FROM aigcspace.api_call_log WHERE user_id = 'u9' AND request_id IS NULL") > 0
    there.rows("u9")
    assert_audit(there.db)
