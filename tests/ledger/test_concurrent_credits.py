"""Payments from several proxies at once, and against calls that want the same money."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal

import pytest

from app.errors import Conflict
from app.ledger.accounts import set_credit_limit
from tests.harness.postgres import Database
from tests.ledger.calls import Payer, account
from tests.ledger.payments import assert_entries_are_the_credit, entries, posting
from tests.ledger.replica import Replica, at_once, replicas
from tests.ledger.sums import check_at_rest


@pytest.fixture(scope="module")
def pair(db: Database) -> Iterator[list[Replica]]:
    with replicas(db.url, 2) as started:
        yield started
        assert [replica.errors for replica in started] == [[], []], "the database refused something, as by a deadlock"


async def posting_many(replica: Replica, payer: Payer, amount: str, times: int, key: str | None = None) -> Counter[str]:
    """How often it was taken and how often refused; and, under `entry`, how many different entries came back."""
    works = (posting(replica, payer.user_id, amount, idempotency_key=key) for _ in range(times))
    answers = await asyncio.gather(*works, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, Conflict):
            raise answer
    taken = [answer for answer in answers if not isinstance(answer, BaseException)]
    return Counter(taken=len(taken), refused=times - len(taken), entry=len({entry.id for entry in taken}))


def test_posts_with_one_key_that_come_at_once_make_one_entry(pair: list[Replica], db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer()
    counts: list[Counter[str]] = []

    at_once(pair, lambda replica: counts.append(replica.run(posting_many(replica, payer, "5", 20, key="once"))))

    assert counts == [Counter(taken=20, refused=0, entry=1)] * 2
    assert entries(db, payer.user_id) == [5]
    assert_entries_are_the_credit(db, payer.user_id)


def test_no_payment_that_comes_at_once_with_others_is_lost(pair: list[Replica], db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer()

    at_once(pair, lambda replica: replica.run(posting_many(replica, payer, "0.1234", 25)))

    assert account(db, payer.user_id)["credit"] == 50 * Decimal("0.1234")
    assert_entries_are_the_credit(db, payer.user_id)


def test_withdrawals_at_once_take_what_is_there_and_no_more(pair: list[Replica], db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="1.7")
    counts: list[Counter[str]] = []

    at_once(pair, lambda replica: counts.append(replica.run(posting_many(replica, payer, "-0.1", 20))))

    assert sum(count["taken"] for count in counts) == 17
    assert account(db, payer.user_id)["credit"] == 0
    assert_entries_are_the_credit(db, payer.user_id)


def test_a_withdrawal_and_a_call_never_get_the_same_money(pair: list[Replica], db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="3")
    calls = [payer.call("0.1") for _ in range(30)]
    granted: list[str] = []

    def compete(replica: Replica) -> None:
        if replica is pair[0]:
            replica.run(posting_many(replica, payer, "-0.1", 30))
        else:
            for call in calls:
                granted.extend(replica.outcomes(call))

    at_once(pair, compete)

    after = account(db, payer.user_id)
    assert after["available"] == 0
    assert after["credit"] == after["held"] == granted.count("granted") * Decimal("0.1")
    assert_entries_are_the_credit(db, payer.user_id)


def test_payments_while_calls_are_settled_lose_neither(pair: list[Replica], db: Database, new_payer: Callable[..., Payer]) -> None:
    payers = [new_payer(credit="1") for _ in range(3)]
    calls = [payer.call("0.01") for payer in payers for _ in range(60)]
    pair[0].hold(*calls)

    def work(replica: Replica) -> None:
        if replica is pair[0]:
            for start in range(30):
                replica.settle(*calls[start::30])
        else:
            for payer in payers:
                replica.run(posting_many(replica, payer, "0.5", 10))

    at_once(pair, work)

    for payer in payers:
        after = account(db, payer.user_id)
        assert (after["credit"], after["spent"]) == (6, Decimal("0.6"))
    check_at_rest(db, [payer.user_id for payer in payers])


def test_a_credit_limit_is_not_lowered_under_what_calls_hold(pair: list[Replica], db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="1", credit_limit="5")
    pair[0].hold(payer.call("4"))

    async def lower(limit: str) -> None:
        async with pair[1].database.transaction() as session:
            await set_credit_limit(session, user_id=payer.user_id, credit_limit=Decimal(limit), default_credit=Decimal(0))

    with pytest.raises(Conflict):
        pair[1].run(lower("2.9999"))
    pair[1].run(lower("3"))

    assert account(db, payer.user_id)["available"] == 0
