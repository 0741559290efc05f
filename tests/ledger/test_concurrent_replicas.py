"""Several proxies at once on the same accounts: limits and sums are as exact as with one, and nobody deadlocks."""

import asyncio
import random
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal

import pytest

from tests.harness.postgres import Database
from tests.ledger.calls import Call, Payer, account, holds, make_key
from tests.ledger.replica import Replica, at_once, replicas
from tests.ledger.sums import check_at_rest

REPLICAS, CALLS = 3, 200


@pytest.fixture(scope="module")
def trio(db: Database) -> Iterator[list[Replica]]:
    with replicas(db.url, REPLICAS) as started:
        yield started
        assert [replica.errors for replica in started] == [[]] * REPLICAS, "the database refused something, as by a deadlock"


class Watch:
    """Looks at the accounts all the while, as anybody who reads the database may."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.least = Decimal(0)
        self.looks = 0

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.is_set():
            least = self._db.value("SELECT min(credit + credit_limit - spent - held) FROM aigcspace.account")
            self.least = min(self.least, least or Decimal(0))
            self.looks += 1


async def live(replica: Replica, calls: list[Call], granted: list[Call]) -> None:
    """Calls as they come: each is reserved, takes a moment, and is settled."""

    async def one(call: Call) -> None:
        if (await replica.holds.reserve(call.hold())).outcome == "granted":
            granted.append(call)
            await asyncio.sleep(random.random() / 100)
            await replica.settlement.submit(call.outcome())

    await asyncio.gather(*(one(call) for call in calls))


def shared_calls(payers: list[Payer], keys: list[int], number: int) -> list[Call]:
    """In no order: batches of different replicas name the same accounts and keys in different orders."""
    calls = []
    for _ in range(number):
        payer, key = random.choice(list(zip(payers, keys, strict=True)))
        cost = Decimal(random.randrange(10**6)).scaleb(-8)
        calls.append(
            Call(payer.user_id, random.choice((payer.key_id, key)), cost, ceiling=cost * 2, row={"model_name": random.choice("abc")})
        )
    return calls


def test_sums_are_exact_when_three_proxies_share_five_accounts(trio: list[Replica], db: Database, new_payer: Callable[..., Payer]) -> None:
    payers = [new_payer(credit="100") for _ in range(5)]
    keys = [make_key(db, payer.user_id) for payer in payers]
    granted: list[Call] = []

    with Watch(db) as watch:
        at_once(trio, lambda replica: replica.run(live(replica, shared_calls(payers, keys, CALLS), granted)))

    assert len(granted) == REPLICAS * CALLS
    for payer in payers:
        assert account(db, payer.user_id)["spent"] == sum(call.cost for call in granted if call.user_id == payer.user_id)
    check_at_rest(db, [payer.user_id for payer in payers])
    assert watch.looks > 5
    assert watch.least == 0


def test_accounts_that_run_dry_under_three_proxies_never_go_below_zero(
    trio: list[Replica], db: Database, new_payer: Callable[..., Payer]
) -> None:
    payers = [new_payer(credit="0.1") for _ in range(5)]
    keys = [make_key(db, payer.user_id) for payer in payers]
    granted: list[Call] = []

    with Watch(db) as watch:
        at_once(trio, lambda replica: replica.run(live(replica, shared_calls(payers, keys, CALLS), granted)))

    assert 5 < len(granted) < REPLICAS * CALLS
    assert sum(account(db, payer.user_id)["spent"] for payer in payers) == sum(call.cost for call in granted)
    check_at_rest(db, [payer.user_id for payer in payers])
    assert watch.least == 0


def test_exactly_as_many_are_granted_as_the_credit_can_pay(trio: list[Replica], db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="0.37")
    outcomes: list[str] = []

    at_once(trio, lambda replica: outcomes.extend(replica.outcomes(*(payer.call("0.01") for _ in range(CALLS)))))

    assert sorted(outcomes) == ["credit"] * (REPLICAS * CALLS - 37) + ["granted"] * 37
    assert holds(db, payer.user_id) == 37
    assert account(db, payer.user_id)["available"] == 0


@pytest.mark.parametrize(("limit", "reason"), [("max_concurrency", "max_concurrency"), ("rpm", "rpm")])
def test_a_limit_of_a_key_is_exact_over_all_proxies(
    trio: list[Replica], db: Database, new_payer: Callable[..., Payer], limit: str, reason: str
) -> None:
    payer = new_payer(credit="10", **{limit: 20})
    outcomes: list[str] = []

    at_once(trio, lambda replica: outcomes.extend(replica.outcomes(*(payer.call("0.01") for _ in range(50)))))

    assert sorted(outcomes) == ["granted"] * 20 + [reason] * (REPLICAS * 50 - 20)


def test_the_same_calls_settled_by_three_proxies_at_once_are_paid_once(
    trio: list[Replica], db: Database, new_payer: Callable[..., Payer]
) -> None:
    payers = [new_payer(credit="10") for _ in range(5)]
    calls = [payer.call("0.0123456789") for payer in payers for _ in range(40)]
    trio[0].hold(*calls)

    at_once(trio, lambda replica: replica.settle(*random.sample(calls, len(calls))))

    for payer in payers:
        assert account(db, payer.user_id)["spent"] == 40 * Decimal("0.0123456789")
    check_at_rest(db, [payer.user_id for payer in payers])


def test_batches_that_lock_the_same_accounts_never_wait_for_each_other_in_a_circle(
    trio: list[Replica], db: Database, new_payer: Callable[..., Payer]
) -> None:
    payers = [new_payer(credit="10") for _ in range(25)]

    def work(replica: Replica) -> None:
        for _ in range(40):
            batch = [payer.call("0.001") for payer in random.sample(payers, len(payers))]
            replica.hold(*batch)
            replica.settle(*batch)

    at_once(trio, work)

    assert [replica.errors for replica in trio] == [[]] * REPLICAS
    check_at_rest(db, [payer.user_id for payer in payers])
