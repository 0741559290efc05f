"""An operator's token is known at every replica, and no longer than it holds."""

import secrets

from tests.harness.admin import Admin
from tests.harness.proxy import Proxy


def test_a_token_taken_away_at_one_replica_is_refused_at_another_at_once(admin: Admin, replica: Proxy) -> None:
    made = admin.ask("POST", "/admin/tokens", json={"name": secrets.token_hex(4)})
    with Admin(replica.url, made["token"]) as other:
        other.ask("GET", "/admin/users", params={"limit": 1})
        admin.ask("DELETE", f"/admin/tokens/{made['id']}")
        assert other.http.get("/admin/users").status_code == 401
