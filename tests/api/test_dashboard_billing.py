"""The balance as relay clients ask for it: numbers, exact to the last digit, of the key's own purse."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.acceptance.refusals import assert_envelope
from tests.harness.admin import Admin
from tests.harness.scene import Scene

PLACES = ["/dashboard/billing", "/v1/dashboard/billing"]


def told(scene: Scene, path: str, **query: str) -> dict[str, Any]:
    """The numbers as they are written."""
    answer = scene.http.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return dict(json.loads(answer.content, parse_float=Decimal, parse_int=Decimal))


@pytest.mark.parametrize("place", PLACES)
def test_what_was_paid_in_and_what_was_spent(new_scene: Callable[..., Scene], place: str) -> None:
    scene = new_scene(credit="12.5", rates={"input": "0.0123456789", "output": "0.1"})
    assert scene.post(scene.chat()).status_code == 200
    spent = scene.row()["charge"]

    subscription, usage = told(scene, f"{place}/subscription"), told(scene, f"{place}/usage")

    assert (subscription["object"], usage["object"]) == ("billing_subscription", "list")
    assert subscription["hard_limit_usd"] == subscription["system_hard_limit_usd"] == subscription["soft_limit_usd"] == Decimal("12.5")
    assert subscription["has_payment_method"] is True
    assert subscription["access_until"] > datetime.now(UTC).timestamp()
    assert usage["total_usage"] == spent * 100 > 0
    assert subscription["hard_limit_usd"] - usage["total_usage"] / 100 == Decimal(scene.admin.user(scene.user)["available"])


def test_a_key_with_a_limit_has_a_purse_of_its_own(scene: Scene, admin: Admin) -> None:
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(days=3)
    own = admin.add_key(scene.user, spend_limit="5", expires_at=ends.isoformat())
    own_key = {"Authorization": f"Bearer {own['key']}"}
    scene.post(scene.chat("with the other key"))
    scene.post(scene.chat("with the own key, at greater length"), headers=own_key)
    spent = scene.db.value("SELECT spent FROM aigcspace.key_meter WHERE key_id = $1", own["id"])

    scene.http.headers.update(own_key)
    assert told(scene, "/v1/dashboard/billing/subscription")["hard_limit_usd"] == 5
    assert told(scene, "/v1/dashboard/billing/subscription")["access_until"] == int(ends.timestamp())
    assert told(scene, "/v1/dashboard/billing/usage")["total_usage"] == spent * 100
    today = datetime.now(UTC).date()
    ranged = told(scene, "/v1/dashboard/billing/usage", start_date=f"{today - timedelta(1)}", end_date=f"{today + timedelta(2)}")
    assert ranged["total_usage"] == spent * 100


def test_a_limit_beyond_the_credit_promises_no_more_than_there_is(new_scene: Callable[..., Scene]) -> None:
    scene = new_scene(credit="2", key_fields={"spend_limit": "50"})
    scene.post(scene.chat())

    assert told(scene, "/dashboard/billing/subscription")["hard_limit_usd"] == 2


def test_days_are_utc_and_the_last_is_exclusive(scene: Scene) -> None:
    for day, charge in (("2031-01-31T23:00:00Z", "1"), ("2031-02-01T00:00:00Z", "0.0000000007"), ("2031-02-28T23:00:00Z", "2")):
        scene.db.fetch(
            """
            INSERT INTO aigcspace.usage_hourly VALUES ($1, $2, 0, 'm', 0, '', 'success', false, 1, 0, 0, 0, 0, 0, $3, 0, 0)
            """,
            datetime.fromisoformat(day),
            f"books-of-{scene.user}",
            Decimal(charge),
        )
    scene.db.fetch("UPDATE aigcspace.usage_hourly SET user_id = $1 WHERE user_id = $2", scene.user, f"books-of-{scene.user}")
    try:
        usage = "/v1/dashboard/billing/usage"
        assert told(scene, usage, start_date="2031-2-1", end_date="2031-3-1")["total_usage"] == Decimal("200.00000007")
        assert told(scene, usage, start_date="2031-02-01", end_date="2031-02-01")["total_usage"] == Decimal("0.00000007")
        assert told(scene, usage, end_date="2031-02-01")["total_usage"] == 100
        assert told(scene, usage, start_date="2031-02-02")["total_usage"] == 200
        assert told(scene, usage, start_date="2035-01-01", end_date="2036-01-01")["total_usage"] == 0
    finally:
        scene.db.fetch("DELETE FROM aigcspace.usage_hourly WHERE user_id = $1", scene.user)


@pytest.mark.parametrize(
    "dates", [{"start_date": "soon"}, {"end_date": "2031-13-01"}, {"start_date": "2031-02-01", "end_date": "2031-01-01"}]
)
def test_days_that_make_no_sense(scene: Scene, dates: dict[str, str]) -> None:
    assert_envelope(scene.http.get("/dashboard/billing/usage", params=dates), 400, "invalid_date")


@pytest.mark.parametrize("path", ["/dashboard/billing/usage", "/v1/dashboard/billing/subscription"])
def test_without_a_key(scene: Scene, path: str) -> None:
    assert_envelope(scene.http.get(path, headers={"Authorization": "Bearer sk-unknown"}), 401, "invalid_api_key")
