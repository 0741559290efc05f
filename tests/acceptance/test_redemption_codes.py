"""Redemption codes over REST: made and seen by the operator, redeemed with a platform key."""

import httpx
import pytest

from tests.harness.admin import Admin
from tests.harness.scene import Scene


@pytest.fixture
def batch(admin: Admin) -> dict[str, object]:
    return dict(
        admin.ask("POST", "/admin/codes", json={"amount": "2.5", "count": 2, "note": "spring", "expires_at": "2999-01-01T00:00:00Z"})
    )


def listed(admin: Admin, batch: dict[str, object]) -> dict[str, object]:
    return next(row for row in admin.listed("/admin/codes") if row["id"] == batch["id"])


def told(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_a_batch_from_first_to_last(scene: Scene, admin: Admin, batch: dict[str, object]) -> None:
    first, second = batch["codes"]

    redeemed = scene.http.post("/v1/redeem", json={"code": first})
    again = scene.http.post("/v1/redeem", json={"code": first})
    voided = admin.ask("DELETE", f"/admin/codes/{batch['id']}")
    refused = scene.http.post("/v1/redeem", json={"code": second})

    assert redeemed.json() == {"amount": "2.5000", "currency": "USD", "available": "102.5000000000"}
    assert redeemed.headers["x-request-id"]
    assert (told(again), told(refused)) == ((409, "code_redeemed"), (409, "code_voided"))
    assert (voided["made"], voided["redeemed"], voided["voided"], voided["open"]) == (2, 1, 1, 0)
    assert voided == listed(admin, batch)
    entry = admin.listed(f"/admin/users/{scene.user}/credits")[0]
    [found] = [code for code in admin.listed("/admin/codes/single", ending=first[-4:].lower()) if code["batch_id"] == batch["id"]]
    assert (found["id"], found["redeemed_by"], found["state"]) == (entry["code_id"], scene.user, "redeemed")
    assert len(admin.listed("/admin/codes/single", batch_id=batch["id"])) == 2


def test_what_is_wrong_with_a_code_is_told(scene: Scene, batch: dict[str, object]) -> None:
    code = str(batch["codes"][0])
    mistyped = ("1" if code[0] != "1" else "2") + code[1:]

    assert told(scene.http.post("/v1/redeem", json={"code": mistyped})) == (422, "code_mistyped")
    assert told(scene.http.post("/v1/redeem", json={"code": "0" * 20})) == (404, "code_unknown")
    assert scene.http.post("/v1/redeem", json={"code": code}, headers={"Authorization": "Bearer sk-none"}).status_code == 401


def test_codes_are_the_operators_to_make(scene: Scene, admin: Admin) -> None:
    assert scene.http.post("/admin/codes", json={"amount": "1", "count": 1}).status_code == 401
    assert admin.http.delete("/admin/codes/999999").status_code == 404
    for wrong in (
        {"amount": "0", "count": 1},
        {"amount": "1", "count": 1001},
        {"amount": "1", "count": 1, "expires_at": "2020-01-01T00:00:00Z"},
    ):
        assert admin.http.post("/admin/codes", json=wrong).status_code == 422
