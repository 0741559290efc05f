"""An account that somebody has locked delays its own calls and no others, and these see it as it is afterwards."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest

from app.errors import Unavailable
from tests.harness.books import wait_until
from tests.harness.postgres import Database
from tests.ledger.calls import Payer, account, rows
from tests.ledger.locks import locked
from tests.ledger.replica import Replica

WAITING = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')"


@pytest.mark.parametrize("table", ["account", "key_meter"])
def test_settlements_of_others_do_not_wait_for_a_locked_row(
    ledger: Replica, db: Database, new_payer: Callable[..., Payer], table: str
) -> None:
    slow, others = new_payer(credit="10"), [new_payer(credit="10") for _ in range(20)]
    own, theirs = [slow.call("1") for _ in range(5)], [other.call("1") for other in others]
    ledger.hold(*own, *theirs)
    column, value = ("user_id", slow.user_id) if table == "account" else ("key_id", slow.key_id)

    with locked(db, table, column, value) as unlock:
        ending = [ledger.run(_submitted(ledger, call)) for call in own[:3]]
        ledger.settle(*theirs)
        ending += [ledger.run(_submitted(ledger, call)) for call in own[3:]]
        ledger.settle(*(other.call("0") for other in others))
        assert not any(future.done() for future in ending)
        unlock()
        ledger.run(ledger.settlement.drained())

    assert account(db, slow.user_id)["spent"] == 5
    assert len(rows(db, slow.user_id)) == 5


def test_reservations_of_others_do_not_wait_for_a_locked_account(db: Database, new_payer: Callable[..., Payer]) -> None:
    replica = Replica(db.url, admit_wait=1.0, lease=1.0)
    slow, other = new_payer(credit="10"), new_payer(credit="10")
    theirs = [other.call("0.1") for _ in range(20)]

    with locked(db, "account", "user_id", slow.user_id) as unlock:
        decided = replica.run(_all(replica, [slow.call("1"), *theirs]))
        assert isinstance(decided[0], Unavailable)
        assert [getattr(decision, "outcome", decision) for decision in decided[1:]] == ["granted"] * 20
        unlock()

    mended = slow.call("1")
    replica.hold(mended)
    replica.settle(mended, *theirs)
    wait_until(lambda: account(db, slow.user_id)["held"] == 0, what="the reservation that came too late is void")
    replica.close()


@pytest.mark.parametrize(
    ("table", "change", "refused_for"),
    [
        ("account", "credit_limit = 0", "credit"),
        ("account", "request_level = 1, drained_at = clock_timestamp()", "user_rpm"),
        ("key_meter", "request_level = 1, drained_at = clock_timestamp()", "rpm"),
    ],
)
def test_what_others_took_while_a_reservation_waited_is_gone(
    ledger: Replica, db: Database, new_payer: Callable[..., Payer], table: str, change: str, refused_for: str
) -> None:
    payer = new_payer(credit="0", credit_limit="10", **{"rpm": 1} if refused_for == "rpm" else {})
    if refused_for == "user_rpm":
        db.execute("INSERT INTO aigcspace.user_policy (user_id, rpm) VALUES ($1, 1)", payer.user_id)
    column, value = ("user_id", payer.user_id) if table == "account" else ("key_id", payer.key_id)

    with locked(db, table, column, value, change=change) as commit, ThreadPoolExecutor(1) as others:
        asked = others.submit(ledger.outcomes, payer.call("1"))
        wait_until(lambda: db.value(WAITING), what="the reservation waits")
        commit()
        assert asked.result(30) == [refused_for]


def test_what_others_took_while_a_settlement_waited_pays_for_no_excess(
    ledger: Replica, db: Database, new_payer: Callable[..., Payer]
) -> None:
    payer = new_payer(credit="0", credit_limit="10")
    call = payer.call("5", ceiling=Decimal(1))
    ledger.hold(call)

    with locked(db, "account", "user_id", payer.user_id, change="credit_limit = 3") as commit, ThreadPoolExecutor(1) as others:
        ending = others.submit(ledger.settle, call)
        wait_until(lambda: db.value(WAITING), what="the settlement waits")
        commit()
        ending.result(30)

    (row,) = rows(db, payer.user_id)
    assert (row["charge"], row["write_off"], row["flags"]) == (3, 2, None)
    assert account(db, payer.user_id)["available"] == 0


async def _submitted(ledger: Replica, call: object) -> asyncio.Future[None]:
    return ledger.settlement.submit(call.outcome())  # type: ignore[attr-defined]


async def _all(replica: Replica, calls: list[object]) -> list[object]:
    return await asyncio.gather(*(replica.holds.reserve(call.hold()) for call in calls), return_exceptions=True)  # type: ignore[attr-defined]
