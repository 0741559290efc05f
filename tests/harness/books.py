"""What must be true of the ledger when nothing is in flight, asked of PostgreSQL itself; and what a call must cost."""

import time
from collections.abc import Callable, Mapping
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, TypeVar

from tests.harness.postgres import Database

T = TypeVar("T")
MILLION = Decimal(1_000_000)
TOLERANCE = Decimal("0.00005")

Rates = Mapping[str, str]


def wait_until(condition: Callable[[], T], *, what: str = "", within: float = 30.0) -> T:
    """The first true value of `condition`, asked every few milliseconds."""
    deadline = time.monotonic() + within
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s: {what or condition}")
        time.sleep(0.01)
    return value


def books(db: Database) -> None:
    """Waits for the last hold to go, then checks every account against its rows."""
    wait_until(lambda: db.value("SELECT count(*) FROM aigcspace.call_hold") == 0, what="no call holds money any longer")
    accounts = db.fetch(
        """
        SELECT a.user_id, a.credit + a.credit_limit AS most, a.held, a.billed, a.spent,
               coalesce(l.bill, 0) AS bill, coalesce(l.charge, 0) AS charge
        FROM aigcspace.account a
        LEFT JOIN (SELECT user_id, sum(bill) AS bill, sum(charge) AS charge FROM aigcspace.api_call_log
                   WHERE request_id IS NOT NULL GROUP BY user_id) l USING (user_id)
        """
    )
    for account in accounts:
        assert account["held"] == 0, account
        assert account["billed"] == account["bill"], account
        assert account["spent"] == account["charge"], account
        assert abs(account["billed"] - account["spent"]) <= TOLERANCE, account
        assert account["billed"] <= account["most"], account
    repeated = db.fetch("SELECT request_id FROM aigcspace.api_call_log GROUP BY request_id HAVING count(*) > 1")
    assert not [row for row in repeated if row["request_id"] is not None]


def charge(rates: Rates, usage: Mapping[str, Any]) -> Decimal:
    """The exact price of a row's counts: disjoint parts, each at its own rate or at that of the whole it belongs to."""

    def rate(name: str, otherwise: str) -> Decimal:
        return Decimal(rates.get(name) or rates.get(otherwise, "0"))

    read, write = usage.get("cache_read_tokens") or 0, usage.get("cache_write_tokens") or 0
    reasoning = usage.get("reasoning_tokens") or 0
    total = (
        (usage["input_tokens"] - read - write) * rate("input", "input")
        + read * rate("cache_read", "input")
        + write * rate("cache_write", "input")
        + (usage["output_tokens"] - reasoning) * rate("output", "output")
        + reasoning * rate("reasoning", "output")
    )
    return (total / MILLION).quantize(Decimal("0.0000000001"))


def bills(charges: list[Decimal]) -> list[Decimal]:
    """What each of one account's calls, in order, is billed: the cut of the sum so far, less what was billed before."""
    billed, spent, result = Decimal("0.0000"), Decimal(0), []
    for amount in charges:
        spent += amount
        up_to_now = spent.quantize(Decimal("0.0001"), ROUND_HALF_UP)
        result.append(up_to_now - billed)
        billed = up_to_now
    return result
