"""An account that somebody has locked delays its own calls and no others."""

import asyncio
from collections.abc import Callable

import pytest

from app.errors import Unavailable
from tests.harness.books import wait_until
from tests.harness.postgres import Database
from tests.ledger.calls import Payer, account, rows
from tests.ledger.locks import locked
from tests.ledger.replica import Replica


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


async def _submitted(ledger: Replica, call: object) -> asyncio.Future[None]:
    return ledger.settlement.submit(call.outcome())  # type: ignore[attr-defined]


async def _all(replica: Replica, calls: list[object]) -> list[object]:
    return await asyncio.gather(*(replica.holds.reserve(call.hold()) for call in calls), return_exceptions=True)  # type: ignore[attr-defined]
