"""Prices as operators handle them: found, taken out and put in as a sheet, and tried on the calls of the last days."""

import csv
import io
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import text

from app.billing.price import Price
from app.database import Database as ProxyDatabase
from app.errors import UnacceptableValue
from app.reports import price_preview
from tests.harness.admin import Admin
from tests.harness.books import wait_until
from tests.harness.postgres import Database
from tests.harness.scene import Scene

TIERED: dict[str, Any] = {
    "tiers": [{"above_input_tokens": 1000, "rates": {"input": "2"}, "service_tiers": {"flex": {"input": "0.5"}}}],
    "service_tiers": {"priority": {"output": "9"}},
}


@pytest.fixture
def name() -> str:
    return f"name-{secrets.token_hex(4)}"


def exported(admin: Admin, **params: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(admin.http.get("/admin/prices/export", params=params).text)))


def put_in(admin: Admin, sheet: str, **params: Any) -> Any:
    return admin.http.post("/admin/prices/import", content=sheet, headers={"Content-Type": "text/csv"}, params=params)


def current(admin: Admin, model: str) -> dict[str, Any]:
    [price] = admin.listed("/admin/prices", q=model)
    return dict(price)


def test_a_price_of_the_future_is_in_the_history_and_not_in_force(admin: Admin, name: str) -> None:
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    admin.set_price(name, {"input": "1"})
    admin.set_price(name, {"input": "2"}, effective_from=tomorrow)

    assert [price["rates"] for price in admin.listed(f"/admin/prices/{name}/history")] == [{"input": "2"}, {"input": "1"}]
    assert current(admin, name)["rates"] == {"input": "1"}


def test_what_was_taken_out_changes_nothing_put_in_again(admin: Admin, name: str) -> None:
    admin.set_price(f"=cmd|{name}", {"input": "0.15", "output": "0.6"}, **TIERED)
    admin.set_price(f"\uff1dcmd|{name}", {"input": "1"})
    admin.set_price(f"'{name}", {"input": "1"})

    sheet = admin.http.get("/admin/prices/export", params={"bom": True})
    assert sheet.headers["content-type"].startswith("text/csv")
    assert sheet.content.startswith(b"\xef\xbb\xbf")
    mine = [row["model"] for row in exported(admin) if name in row["model"]]
    assert sorted(set(mine)) == [f"''{name}", f"'=cmd|{name}", f"'\uff1dcmd|{name}"], "no cell begins as a formula does"
    again = put_in(admin, sheet.text).json()
    assert (again["data"], again["written"]) == ([], True)
    assert again["same"] >= 2


def test_a_sheet_sets_new_prices_from_their_time_on(admin: Admin, name: str) -> None:
    admin.set_price(f"{name}-b", {"input": "1"})
    sheet = f"""model,meter,rate,effective_from,above_input_tokens,service_tier
{name}-a,input,0.15,,,
{name}-a,output,0.6,,,
{name}-a,input,0.3,,1000,
{name}-a,input,0.05,,1000,flex
{name}-b,input,3,2031-01-01T00:00:00Z,,
"""
    dry = put_in(admin, sheet, dry_run=True).json()
    assert [(change["model"], change["state"]) for change in dry["data"]] == [(f"{name}-a", "new"), (f"{name}-b", "changed")]
    assert not dry["written"]
    assert admin.listed("/admin/prices", q=f"{name}-a") == []

    assert put_in(admin, sheet).json()["data"] == dry["data"]
    made = current(admin, f"{name}-a")
    assert made["rates"] == {"input": "0.15", "output": "0.6"}
    assert made["tiers"] == [{"above_input_tokens": 1000, "rates": {"input": "0.3"}, "service_tiers": {"flex": {"input": "0.05"}}}]
    assert current(admin, f"{name}-b")["rates"] == {"input": "1"}
    assert [price["rates"] for price in admin.listed(f"/admin/prices/{name}-b")] == [{"input": "3"}, {"input": "1"}]


def test_a_sheet_with_faults_changes_nothing_and_names_each_line(admin: Admin, name: str) -> None:
    sheet = f"""model,meter,rate,above_input_tokens
{name},input,1,
{name},inptu,1,
{name}-2,input,-1,
{name},input,1,
{name},output,1,none
{name},output
{name}-3,input,1,-5
"""
    answer = put_in(admin, sheet)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_csv")
    assert sorted(fault["field"] for fault in answer.json()["errors"]) == ["line 2", "line 4", "line 5", "line 6", "line 7", "line 8"]
    assert answer.json()["detail"].startswith("Nothing was changed: 6 lines are at fault, as in line ")
    one = put_in(admin, f"model,meter,rate\n{name},input,-1\n")
    assert one.json()["detail"].startswith(f"Nothing was changed: line 2: {name}: ")
    assert admin.listed("/admin/prices", q=name) == []
    for wrong in (b"\xff\xfe", b"model,price\nx,1\n", b""):
        answer = admin.http.post("/admin/prices/import", content=wrong, headers={"Content-Type": "text/csv"})
        assert answer.status_code == 422, wrong


def test_a_preview_at_the_price_in_force_is_what_was_charged(new_scene: Callable[..., Scene], admin: Admin, name: str) -> None:
    scene = new_scene()
    admin.ask("POST", "/admin/groups", json={"name": name, "multiplier": "0.5"})
    scene.post(scene.chat("one two three"))
    admin.ask("PATCH", f"/admin/users/{scene.user}", json={"group": name})
    scene.post(scene.chat("one two three four"))
    wait_until(lambda: len(scene.rows()) == 2, what="two rows")
    entries = len(admin.listed("/admin/audit", object_id=scene.model))
    charged = sum(row["charge"] for row in scene.rows())

    def tried(rates: dict[str, str]) -> dict[str, Any]:
        body = {"prices": [{"model": scene.model, "rates": rates}], "days": 1}
        return dict(admin.ask("POST", "/admin/prices/preview", json=body)["data"][0])

    same = tried(scene.rates)
    assert (same["calls"], same["is_complete"]) == (2, True)
    assert Decimal(same["charged"]) == Decimal(same["would_be"]) == charged > 0
    assert Decimal(same["difference"]) == 0
    double = tried({meter: str(2 * Decimal(rate)) for meter, rate in scene.rates.items()})
    assert Decimal(double["difference"]) == charged
    assert tried({"request": "1"})["would_be"] == "1.5000000000", "the second call is half off"
    assert len(admin.listed("/admin/audit", object_id=scene.model)) == entries, "nothing was changed"


async def test_a_preview_that_finds_no_end_says_so(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(price_preview, "LONGEST", 0.1)
    engine = ProxyDatabase(db.url, pool_size=2)
    price = Price.parse(id=None, model_name="any", rates={"input": "1"}, tiers=None)
    async with engine.transaction() as busy:
        await busy.execute(text("LOCK TABLE aigcspace.api_call_log"))
        async with engine.reading() as session:
            with pytest.raises(UnacceptableValue, match="fewer"):
                await price_preview.preview_prices(session, [price], days=1, zone="UTC")
    await engine.close()


def test_a_viewer_may_preview_and_take_out_but_not_put_in(admin: Admin, name: str) -> None:
    token = admin.ask("POST", "/admin/tokens", json={"name": name, "role": "viewer"})["token"]
    with Admin(str(admin.http.base_url), token) as viewer:
        viewer.ask("POST", "/admin/prices/preview", json={"prices": [{"model": name, "rates": {"input": "1"}}]})
        assert viewer.http.get("/admin/prices/export").status_code == 200
        assert put_in(viewer, "model,meter,rate\n", dry_run=True).status_code == 403


@pytest.mark.parametrize(("path", "field"), [("/admin/users", "id"), ("/admin/keys", "name"), ("/admin/models", "name")])
def test_long_lists_are_searched_and_paged(admin: Admin, name: str, path: str, field: str) -> None:
    for at in range(3):
        user = f"{name}_{at}"
        admin.add_user(user)
        admin.add_key(user, name=f"{name}_{at}")
        admin.ask("PUT", f"/admin/models/{name}_{at}", json={})
    found = admin.listed(path, q=f"{name.upper()}_", limit=1)

    assert sorted(one[field] for one in found) == [f"{name}_{at}" for at in range(3)]
    assert admin.listed(path, q=f"{name}%") == [], "no wildcards"
