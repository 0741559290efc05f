"""A month's statement over REST: for the operator, and for the holder of a key of the account; as JSON, and as CSV."""

import csv
from datetime import UTC, datetime
from decimal import Decimal
from io import StringIO

import pytest

from tests.harness.admin import Admin
from tests.harness.scene import Scene

MONTH = {"month": datetime.now(UTC).strftime("%Y-%m")}


@pytest.fixture
def called(scene: Scene, admin: Admin) -> Scene:
    """Has called, has paid, and got something back."""
    scene.post(scene.chat("first " * 200))
    admin.add_credit(scene.user, "5", note='=HYPERLINK("http://example.com")')
    admin.ask("POST", f"/logs/{scene.row()['id']}/refund", json={"amount": "0.0001"})
    return scene


def test_what_came_in_less_what_was_used_is_what_is_left(called: Scene, admin: Admin) -> None:
    statement = admin.ask("GET", f"/admin/users/{called.user}/statement", params=MONTH)
    user, row = admin.user(called.user), called.row()

    assert (statement["opening_balance"], statement["currency"], statement["time_zone"]) == ("0.0000", "USD", "UTC")
    assert [entry["amount"] for entry in statement["credits"]] == ["100.0000", "5.0000"]
    assert [(entry["amount"], entry["request_id"]) for entry in statement["refunds"]] == [("0.0001", str(row["request_id"]))]
    [line] = statement["usage"]
    assert (line["model_name"], line["api_key_name"], line["bill"]) == (called.model, "test", f"{row['bill']:f}")
    assert Decimal(statement["closing_balance"]) == Decimal(user["credit"]) - Decimal(user["billed"])


def test_the_amounts_of_the_csv_lead_from_balance_to_balance(called: Scene, admin: Admin) -> None:
    answer = admin.http.get(f"/admin/users/{called.user}/statement", params=MONTH | {"format": "csv", "time_zone": "Asia/Kolkata"})

    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    lines = list(csv.DictReader(StringIO(answer.text)))
    assert [line["kind"] for line in lines] == ["opening_balance", "credit", "credit", "refund", "usage", "closing_balance"]
    *movements, closing = [Decimal(line["amount"]) for line in lines]
    assert sum(movements) == closing
    assert lines[2]["note"].startswith("'=")


def test_the_holder_of_an_accounts_key_gets_their_own(called: Scene, admin: Admin) -> None:
    key = admin.add_key(called.user, scope="account")["key"]

    own = called.http.get("/v1/statement", params=MONTH, headers={"Authorization": f"Bearer {key}"})
    refused = called.http.get("/v1/statement", params=MONTH)

    assert own.json()["usage"] == admin.ask("GET", f"/admin/users/{called.user}/statement", params=MONTH)["usage"]
    assert own.headers["x-request-id"]
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "scope_missing")


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"month": "2025-13"},
        {"month": "2025-1"},
        {"month": "9999-12"},
        {"time_zone": "Mars/Base"},
        {"time_zone": "../x"},
        {"format": "xml"},
    ],
)
def test_a_statement_that_makes_no_sense(scene: Scene, admin: Admin, wrong: dict[str, str]) -> None:
    wanted = (MONTH | wrong) if wrong else {}
    refused = admin.http.get(f"/admin/users/{scene.user}/statement", params=wanted)
    assert refused.status_code == 422
    if wrong.get("month") == "2025-13":
        assert "month: must be a month of the years 1970 to 2999, as in 2030-01" in refused.json()["detail"]
    assert admin.http.get("/admin/users/nobody-at-all/statement", params=MONTH).status_code == 404
