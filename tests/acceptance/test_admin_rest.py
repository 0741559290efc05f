"""The operator's REST for users, credit and keys, as DESIGN.md section 7 has it. Money goes in and
comes out as decimal strings, secrets are shown once or never, and what is said twice is done once."""

import hashlib
import secrets
from decimal import Decimal
from urllib.parse import quote

import httpx
import pytest

from tests.harness.admin import Admin
from tests.harness.postgres import Database
from tests.harness.proxy import Proxy
from tests.harness.scene import Scene

NO_MONEY = ["1.00001", "NaN", "Infinity", "-Infinity", "1e400", "1e9999999", "", "ten", "5_0", " 5", "\u0665", None, True]


@pytest.fixture
def name() -> str:
    return f"name-{secrets.token_hex(4)}"


@pytest.mark.parametrize("token", ["", "Bearer wrong-token-of-the-tests", "Basic eA=="])
@pytest.mark.parametrize("path", ["/admin/users", "/admin/keys", "/admin/upstreams", "/admin/prices", "/logs"])
def test_no_entry_without_the_admin_token(proxy: Proxy, path: str, token: str) -> None:
    answer = httpx.get(f"{proxy.url}{path}", headers={"Authorization": token} if token else {}, trust_env=False)

    assert answer.status_code == 401
    assert answer.json()


def test_a_platform_key_is_no_admin_token(scene: Scene) -> None:
    assert scene.http.get("/admin/users").status_code in (401, 403)


def test_a_user_from_first_to_last(admin: Admin, name: str) -> None:
    made = admin.add_user(name, name="Ada")
    assert (made["id"], made["name"]) == (name, "Ada")
    money = {field: Decimal(made[field]) for field in ("credit", "billed", "spent", "held", "available")}
    assert set(money.values()) == {Decimal(0)}
    assert all(isinstance(made[field], str) for field in money)

    admin.ask("PATCH", f"/admin/users/{name}", json={"name": "Ada L."})
    assert admin.user(name)["name"] == "Ada L."
    assert name in [user["id"] for user in admin.listed("/admin/users")]

    admin.ask("DELETE", f"/admin/users/{name}")
    assert admin.http.get(f"/admin/users/{name}").status_code == 200, "disabled, not gone"


def test_a_user_exists_once(admin: Admin, name: str) -> None:
    admin.add_user(name)

    assert admin.http.post("/admin/users", json={"id": name}).status_code == 409


@pytest.mark.parametrize("name", ["", "/", "a//b", "credits/a", "my-statement", "history", ".a", "..."])
def test_whatever_name_is_taken_is_found_by_it(admin: Admin, name: str) -> None:
    """Users, groups and models that can be made can be asked for."""
    name = f"{secrets.token_hex(4)}/{name}"
    admin.add_user(name)
    admin.ask("POST", "/admin/groups", json={"name": name})
    admin.ask("PUT", f"/admin/models/{quote(name)}", json={"context_tokens": 1})
    admin.set_price(quote(name), {"input": "1"})
    for things, field in (("users", "id"), ("groups", "name"), ("models", "name")):
        assert admin.ask("GET", f"/admin/{things}/{quote(name)}")[field] == name
    assert [price["model"] for price in admin.listed(f"/admin/prices/{quote(name)}/history")] == [name]


@pytest.mark.parametrize("name", [".", "..", "a/..", "../a", "a/./b", "a/credits", "a/statement"])
def test_a_name_by_which_nobody_can_be_asked_for(admin: Admin, name: str) -> None:
    refused = admin.http.post("/admin/users", json={"id": name})
    assert (refused.status_code, refused.json()["detail"].partition(":")[0]) == (422, "id")
    if "." in name:
        assert admin.http.post("/admin/groups", json={"name": name}).status_code == 422
        for things, body in (("models", {"context_tokens": 1}), ("prices", {"rates": {"input": "1"}})):
            assert admin.http.put(f"/admin/{things}/{quote(name, safe='').replace('.', '%2E')}", json=body).status_code in (404, 422)


@pytest.mark.parametrize("body", [{}, {"id": ""}, {"id": "x" * 51}, {"id": 5}, {"id": "a\u0000b"}, []])
def test_a_user_that_makes_no_sense(admin: Admin, body: object) -> None:
    assert admin.http.post("/admin/users", json=body).status_code == 422


def test_credit_adds_up(admin: Admin, name: str) -> None:
    admin.add_user(name)
    admin.add_credit(name, "10.0001", note="first")
    entry = admin.add_credit(name, "-0.5")

    assert isinstance(entry["amount"], str)
    assert Decimal(entry["amount"]) == Decimal("-0.5")
    user = admin.user(name)
    assert (Decimal(user["credit"]), Decimal(user["available"])) == (Decimal("9.5001"),) * 2
    entries = admin.listed(f"/admin/users/{name}/credits")
    assert sorted(Decimal(entry["amount"]) for entry in entries) == [Decimal("-0.5"), Decimal("10.0001")]
    assert "first" in [entry["note"] for entry in entries]


def test_credit_said_twice_with_one_idempotency_key_is_given_once(admin: Admin, name: str) -> None:
    admin.add_user(name)
    first = admin.add_credit(name, "5", idempotency_key="payment-1")
    again = admin.add_credit(name, "5", idempotency_key="payment-1")
    other = admin.http.post(f"/admin/users/{name}/credits", json={"amount": "6"}, headers={"Idempotency-Key": "payment-1"})

    assert again == first
    assert other.status_code == 409
    assert Decimal(admin.user(name)["credit"]) == 5
    assert len(admin.listed(f"/admin/users/{name}/credits")) == 1


@pytest.mark.parametrize("amount", [*NO_MONEY, "0", "0e9999999"])
def test_credit_that_makes_no_sense(admin: Admin, name: str, amount: object) -> None:
    admin.add_user(name)

    assert admin.http.post(f"/admin/users/{name}/credits", json={"amount": amount}).status_code == 422
    assert Decimal(admin.user(name)["credit"]) == 0


@pytest.mark.parametrize("limit", NO_MONEY)
def test_a_credit_limit_that_makes_no_sense(admin: Admin, name: str, limit: object) -> None:
    assert admin.http.post("/admin/users", json={"id": name, "credit_limit": limit}).status_code == 422


def test_credit_never_falls_below_what_is_spent(admin: Admin, name: str) -> None:
    admin.add_user(name)
    admin.add_credit(name, "1")

    refused = admin.http.post(f"/admin/users/{name}/credits", json={"amount": "-1.0001"})

    assert refused.status_code in (409, 422)
    assert Decimal(admin.user(name)["credit"]) == 1


def test_credit_for_nobody(admin: Admin) -> None:
    assert admin.http.post("/admin/users/nobody-at-all/credits", json={"amount": "1"}).status_code == 404


def test_a_key_is_shown_once_and_kept_as_a_hash(admin: Admin, db: Database, name: str) -> None:
    admin.add_user(name)
    made = admin.add_key(name, name="laptop")
    key = made["key"]

    shown = admin.ask("GET", f"/admin/keys/{made['id']}")
    assert shown["name"] == "laptop"
    assert key not in str(shown)
    assert key not in str(admin.listed("/admin/keys"))
    stored = db.one("SELECT * FROM aigcspace.platform_api_key WHERE id = $1", made["id"])
    assert stored["key_hash"] == hashlib.sha256(key.encode()).hexdigest()
    assert key.startswith(stored["key_prefix"])
    assert key not in str(stored)


def test_a_key_can_be_narrowed_and_disabled(scene: Scene, admin: Admin) -> None:
    path = f"/admin/keys/{scene.key_id}"
    assert scene.post(scene.chat()).status_code == 200

    admin.ask("PATCH", path, json={"models": ["another"]})
    assert scene.post(scene.chat()).status_code == 403
    admin.ask("PATCH", path, json={"models": None})
    assert scene.post(scene.chat()).status_code == 200

    admin.ask("DELETE", path)
    assert scene.post(scene.chat()).status_code == 401
    assert admin.http.get(path).status_code == 200, "disabled, not gone"


def test_a_rotated_key_is_a_new_secret_for_the_same_key(scene: Scene, admin: Admin) -> None:
    rotated = admin.ask("POST", f"/admin/keys/{scene.key_id}/rotate")

    assert rotated["key"] != scene.key
    assert scene.post(scene.chat()).status_code == 401
    answer = scene.post(scene.chat(), headers={"Authorization": f"Bearer {rotated['key']}"})
    assert answer.status_code == 200
    assert scene.row()["user_id"] == scene.user


def test_a_key_for_nobody(admin: Admin) -> None:
    assert admin.http.post("/admin/keys", json={"user_id": "nobody-at-all"}).status_code == 404


@pytest.mark.parametrize("wrong", [{"rpm": 0}, {"rpm": "many"}, {"spend_limit": "-1"}, {"allowed_ips": ["300.0.0.1"]}])
def test_a_key_that_makes_no_sense(admin: Admin, name: str, wrong: dict[str, object]) -> None:
    admin.add_user(name)

    assert admin.http.post("/admin/keys", json={"user_id": name, **wrong}).status_code == 422


def test_a_caller_sees_balance_and_spend_with_the_key(scene: Scene) -> None:
    assert scene.post(scene.chat()).status_code == 200

    own = scene.http.get("/v1/key").json()

    assert scene.key not in str(own)
    text = str(own)
    assert str(scene.row()["charge"].normalize()) in text or str(scene.row()["bill"]) in text
    assert scene.user in text
