"""`/admin/state`: what the ledger has under way, and whose money ends soon."""

from collections.abc import Callable
from decimal import Decimal

from tests.harness.admin import Admin
from tests.harness.scene import Scene


def test_low_balances_are_those_that_recent_use_ends_soon(new_scene: Callable[..., Scene], admin: Admin) -> None:
    rates = {"input": "1000", "output": "1000"}
    low, well_off, idle = new_scene(rates=rates), new_scene(rates=rates), new_scene(credit="0.001")
    for scene in (low, well_off):
        assert scene.post(scene.chat(max_tokens=20)).status_code == 200
    spent = Decimal(low.row()["charge"])
    admin.add_credit(low.user, "-99.9910", note="a correction")
    state = admin.ask("GET", "/admin/state")

    told = {user["user_id"]: user for user in state["low"]}
    assert low.user in told
    assert not {well_off.user, idle.user} & told.keys()
    user = told[low.user]
    assert Decimal(user["available"]) == Decimal("0.009") - spent
    assert Decimal(user["daily"]) == round(spent / 7, 10)
    assert abs(user["days"] - float(Decimal(user["available"]) / (spent / 7))) < 0.001
    assert (state["in_flight"], state["held"], state["oldest"]) == (0, "0", None)
    assert state["processes"] >= 1
    assert state["spool"]["trouble"] is None
