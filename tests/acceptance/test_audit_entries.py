"""Who changed what: each change of an operator leaves an entry in its own transaction, without secrets, for good."""

import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import asyncpg
import pytest

from tests.harness.admin import Admin
from tests.harness.postgres import Database
from tests.harness.proxy import Proxy

SECRET = "an-upstream-secret-that-is-long-2b7e"


@pytest.fixture
def name() -> str:
    return f"name-{secrets.token_hex(4)}"


def entries(admin: Admin, kind: str, of: object) -> list[dict[str, Any]]:
    """Oldest first."""
    return admin.listed("/admin/audit", object_kind=kind, object_id=str(of))[::-1]


def told(entries: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(entry["action"], entry["before"], entry["after"]) for entry in entries]


def test_a_users_changes_are_told_from_first_to_last(admin: Admin, name: str) -> None:
    admin.add_user(name, name="Ada")
    admin.add_credit(name, "10", note="invoice 1", idempotency_key="one")
    admin.add_credit(name, "10", note="invoice 1", idempotency_key="one")
    admin.ask("PATCH", f"/admin/users/{name}", json={"name": "Ada L.", "credit_limit": "5"})
    admin.ask("PATCH", f"/admin/users/{name}", json={"name": "Ada L."})
    admin.ask("DELETE", f"/admin/users/{name}")

    found = entries(admin, "user", name)
    assert {entry["actor"] for entry in found} == {"root"}
    entry_id = admin.listed(f"/admin/users/{name}/credits")[0]["id"]
    assert told(found) == [
        ("user.create", None, {"name": "Ada", "credit_limit": "0.0000", "disabled": False, "credit": "0.0000"}),
        ("credit.add", {"credit": "0.0000"}, {"credit": "10.0000", "amount": "10.0000", "note": "invoice 1", "entry_id": entry_id}),
        ("user.change", {"name": "Ada", "credit_limit": "0.0000"}, {"name": "Ada L.", "credit_limit": "5.0000"}),
        ("user.disable", {"disabled": False}, {"disabled": True}),
    ]


def test_a_refused_change_leaves_no_entry(admin: Admin, name: str) -> None:
    admin.add_user(name)
    assert admin.http.patch(f"/admin/users/{name}", json={"name": "x", "group": "none such"}).status_code == 422
    assert admin.http.post("/admin/users", json={"id": name}).status_code == 409
    assert admin.http.post(f"/admin/users/{name}/credits", json={"amount": "-1"}).status_code == 409

    assert [entry["action"] for entry in entries(admin, "user", name)] == ["user.create"]


def test_what_else_an_operator_defines_is_told_too(admin: Admin, name: str) -> None:
    group = admin.ask("POST", "/admin/groups", json={"name": name, "multiplier": "0.5"})
    admin.ask("PATCH", f"/admin/groups/{name}", json={"rpm": 7})
    admin.ask("DELETE", f"/admin/groups/{name}")
    admin.ask("PUT", f"/admin/models/{name}", json={"context_tokens": 1000})
    admin.ask("PATCH", f"/admin/models/{name}", json={"max_output_tokens": 10})
    admin.set_price(name, {"input": "1"})
    admin.set_price(name, {"input": "2"})

    assert [entry["action"] for entry in entries(admin, "group", group["id"])] == ["group.create", "group.change", "group.delete"]
    assert told(entries(admin, "group", group["id"]))[1] == ("group.change", {"rpm": None}, {"rpm": 7})
    assert told(entries(admin, "model", name)) == [
        ("model.create", None, {"context_tokens": 1000}),
        ("model.change", {"max_output_tokens": None}, {"max_output_tokens": 10}),
    ]
    prices = entries(admin, "price", name)
    assert prices[0]["before"] is None
    assert [entry["action"] for entry in prices] == ["price.set", "price.set"]
    assert [entry["after"]["rates"] for entry in prices] == [{"input": "1"}, {"input": "2"}]
    assert prices[1]["before"]["rates"] == {"input": "1"}


def test_what_several_ask_for_at_once_is_told_as_it_was_done(admin: Admin, name: str) -> None:
    """One makes it, the others find it made."""
    with ThreadPoolExecutor(4) as operators:
        made = [operators.submit(admin.http.put, f"/admin/models/{name}", json={"context_tokens": number}) for number in (1, 2, 3, 4)]
        assert [answer.result(30).status_code for answer in made] == [200] * 4
    assert [entry["action"] for entry in entries(admin, "model", name)] == ["model.create", *["model.change"] * 3]


def test_no_entry_holds_a_secret(admin: Admin, db: Database, name: str) -> None:
    admin.add_user(name)
    key = admin.add_key(name)
    rotated = admin.ask("POST", f"/admin/keys/{key['id']}/rotate")
    made = admin.add_upstream(name, "http://127.0.0.1:9/v1", [name], api_key=SECRET)
    path = f"/admin/upstreams/{made['id']}"
    admin.ask("PATCH", path, json={"api_key": SECRET, "api_keys": [f"more-{SECRET}"]})
    token = admin.ask("POST", "/admin/tokens", json={"name": name})

    assert [entry["action"] for entry in entries(admin, "key", key["id"])] == ["key.create", "key.rotate"]
    changed = entries(admin, "upstream", made["id"])[1]
    assert changed["after"] == {"api_key_hints": ["2b7e", "2b7e"], "api_key": "set anew", "api_keys": "set anew"}
    text = str(db.fetch("SELECT before::text, after::text FROM aigcspace.audit_entry"))
    for secret in (key["key"], rotated["key"], SECRET, token["token"]):
        assert secret not in text


def test_entries_are_found_by_who_what_and_when(admin: Admin, proxy: Proxy, name: str) -> None:
    token = admin.ask("POST", "/admin/tokens", json={"name": name})
    with Admin(proxy.url, token["token"]) as other:
        for at in range(3):
            other.add_user(f"{name}-{at}")
        other.ask("DELETE", f"/admin/users/{name}-1")

    mine = admin.listed("/admin/audit", actor=f"token:{name}", limit=2)
    assert [entry["object_id"] for entry in mine] == [f"{name}-1", f"{name}-2", f"{name}-1", f"{name}-0"]
    assert [entry["id"] for entry in admin.listed("/admin/audit", actor=f"token:{name}", action="user.disable")] == [mine[0]["id"]]
    between = admin.listed("/admin/audit", actor=f"token:{name}", at_from=mine[2]["at"], at_to=mine[0]["at"])
    assert [entry["id"] for entry in between] == [entry["id"] for entry in mine[1:3]]
    assert admin.http.get("/admin/audit", params={"actr": "x"}).status_code == 422


def test_the_database_refuses_to_change_an_entry(admin: Admin, db: Database, name: str) -> None:
    admin.add_user(name)

    for change in ("UPDATE aigcspace.audit_entry SET actor = 'x'", "DELETE FROM aigcspace.audit_entry", "TRUNCATE aigcspace.audit_entry"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
            db.execute(change)
