"""`GET /logs`: newest first, filtered, paged by a cursor that neither repeats nor loses a row while others arrive; one
call in full; and with a platform key, nobody's rows but one's own."""

from decimal import Decimal
from uuid import uuid4

import pytest

from tests.harness.admin import Admin
from tests.harness.books import charge
from tests.harness.scene import RATES, Scene

SEED = (
    "id", "user_id", "api_key_id", "model_id", "model_name", "is_local", "input_tokens", "output_tokens", "bill",
    "status", "error_message", "request_ip", "created_at",
)  # fmt: skip


@pytest.fixture
def called(scene: Scene) -> Scene:
    """Five calls: chat, a stream, embeddings, one with an end user, and one that is too dear."""
    scene.post(scene.chat("first"))
    scene.post(scene.chat("second " * 40, stream=True))
    scene.post({"model": scene.model, "input": "third"}, "/v1/embeddings")
    scene.post(scene.chat("fourth", user="end-user-4"))
    scene.post(scene.chat("fifth", max_tokens=100_000_000))
    assert len(scene.rows()) == 5
    return scene


def test_a_row_carries_the_seeds_columns_and_ours(called: Scene, admin: Admin) -> None:
    newest = admin.logs(user_id=called.user, limit=1, status="success")[0]
    stored = called.rows()[3]

    assert [name for name in SEED if name not in newest] == []
    assert (newest["id"], newest["request_id"]) == (stored["id"], str(stored["request_id"]))
    assert isinstance(newest["bill"], str)
    assert isinstance(newest["charge"], str)
    assert (Decimal(newest["bill"]), Decimal(newest["charge"])) == (stored["bill"], stored["charge"])
    assert newest["created_at"].endswith(("Z", "+00:00"))
    assert (newest["usage_source"], newest["end_user"], newest["is_stream"]) == ("provider", "end-user-4", False)


def test_filters(called: Scene, admin: Admin) -> None:
    rows = called.rows()
    expected = {
        (("api_key_id", called.key_id),): [5, 4, 3, 2, 1],
        (("model_name", called.model),): [5, 4, 3, 2, 1],
        (("status", "failed"),): [5],
        (("status", "success"), ("api", "embeddings")): [3],
        (("api", "chat.completions"), ("status", "success")): [4, 2, 1],
        (("request_id", str(rows[1]["request_id"])),): [2],
        (("request_id", str(uuid4())),): [],
        (("end_user", "end-user-4"),): [4],
        (("request_ip", "127.0.0.1"),): [5, 4, 3, 2, 1],
        (("request_ip", "10.0.0.1"),): [],
        (("upstream_id", called.upstream_id), ("usage_source", "provider")): [4, 3, 2, 1],
        (("is_local", "true"),): [],
        (("is_local", "false"),): [5, 4, 3, 2, 1],
        (("min_bill", "0.0001"),): [at for at in (5, 4, 3, 2, 1) if rows[at - 1]["bill"] >= Decimal("0.0001")],
        (("created_from", "2100-01-01T00:00:00Z"),): [],
        (("created_to", "2100-01-01T00:00:00Z"),): [5, 4, 3, 2, 1],
        (("created_from", rows[3]["created_at"].isoformat() + "Z"),): [5, 4],
    }
    numbers = {row["id"]: at for at, row in enumerate(rows, 1)}
    for filters, wanted in expected.items():
        assert [numbers[row["id"]] for row in admin.logs(user_id=called.user, **dict(filters))] == wanted, filters


def test_the_cursor_walks_all_rows_once_while_more_arrive(called: Scene, admin: Admin) -> None:
    before = [row["id"] for row in reversed(called.rows())]
    walked, cursor = [], None
    for _ in range(10):
        page = admin.ask("GET", "/logs", params={"user_id": called.user, "limit": 2} | ({"cursor": cursor} if cursor else {}))
        walked += [row["id"] for row in page["data"]]
        cursor = page["next_cursor"]
        called.post(called.chat("while paging"))
        if cursor is None:
            break

    assert walked == before
    assert cursor is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"limit": 0},
        {"limit": 501},
        {"limit": "x"},
        {"cursor": "x"},
        {"status": "fine"},
        {"request_id": "x"},
        {"min_bill": "NaN"},
        {"min_bill": "1e9999999"},
        {"min_bill": "-1e9"},
        {"min_bill": "100000000"},
        {"min_bill": "5_0"},
        {"created_from": "yesterday"},
        {"created_from": "1969-12-31T23:59:59Z"},
        {"created_to": "9999-12-31T23:00:00-14:00"},
        {"api_key_id": "x"},
    ],
)
def test_a_filter_that_makes_no_sense(admin: Admin, wrong: dict[str, object]) -> None:
    assert admin.http.get("/logs", params=wrong).status_code == 422


def test_all_time_there_is(called: Scene, admin: Admin) -> None:
    everything = {"user_id": called.user, "created_from": "1970-01-01", "created_to": "9999-12-30"}
    for zone in ("", "T00:00:00Z"):
        found = admin.listed("/logs", **everything | {"created_from": f"1970-01-01{zone}"})
        assert found == admin.listed("/logs", user_id=called.user) != []
    assert admin.http.get("/logs/stats", params=everything).status_code == 200
    assert admin.http.get("/logs/export", params=everything).status_code == 200


def test_one_call_in_full_by_either_id(called: Scene, admin: Admin) -> None:
    stored = called.rows()[1]
    by_id, by_request_id = (admin.ask("GET", f"/logs/{stored[column]}") for column in ("id", "request_id"))

    assert by_id == by_request_id
    assert by_id["request_id"] == str(stored["request_id"])
    assert sum(Decimal(item["amount"]) for item in by_id["line_items"]) == charge(RATES, stored)
    assert Decimal(by_id["charge"]) + Decimal(by_id["rounding"]) == Decimal(by_id["bill"])
    assert len(by_id["attempts"]) == 1


@pytest.mark.parametrize("which", ["01a20a14-0000-7000-8000-000000000000", "9223372036854775807", "99999999999999999999999", "x"])
def test_a_call_that_is_not_there(admin: Admin, which: str) -> None:
    assert admin.http.get(f"/logs/{which}").status_code in (404, 422)


def test_a_platform_key_sees_its_own_rows_and_no_others(called: Scene, admin: Admin) -> None:
    other = admin.add_key(called.user)
    headers = {"Authorization": f"Bearer {other['key']}"}
    called.post(called.chat("with the other key"), headers=headers)

    own = called.http.get("/logs").json()["data"]
    others = called.http.get("/logs", headers=headers).json()["data"]

    assert {row["api_key_id"] for row in own} == {called.key_id}
    assert {row["api_key_id"] for row in others} == {other["id"]}
    assert called.http.get(f"/logs/{others[0]['id']}").status_code == 404
    assert called.http.get("/logs", params={"api_key_id": other["id"]}).json().get("data", []) == []


def test_a_refund_is_shown_at_its_call_and_among_the_credits(called: Scene, admin: Admin) -> None:
    stored = called.rows()[1]
    path = f"/logs/{stored['request_id']}"
    assert admin.ask("GET", path)["refunded"] == "0.0000"

    part = admin.ask("POST", f"/logs/{stored['id']}/refund", json={"amount": "0.0001", "note": "slow"})
    rest = admin.ask("POST", f"{path}/refund", headers={"Idempotency-Key": "rest"})

    assert (part["request_id"], part["note"]) == (str(stored["request_id"]), "slow")
    assert Decimal(rest["amount"]) == stored["bill"] - Decimal("0.0001")
    assert called.http.get(path).json()["refunded"] == f"{stored['bill']:f}"
    assert [entry["id"] for entry in admin.listed(f"/admin/users/{called.user}/credits")[:2]] == [rest["id"], part["id"]]
    assert admin.http.post(f"{path}/refund").json()["code"] == "nothing_to_refund"
    assert called.http.post(f"{path}/refund").status_code == 401
    assert admin.http.post("/logs/x/refund").status_code == 404
