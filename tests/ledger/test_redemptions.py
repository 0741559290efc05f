"""Redemption codes: each is money once, whoever comes at once, and guesses are slow."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from app.billing.code import new_code
from app.errors import ProxyError, UnacceptableValue
from app.ledger import codes as codes_module
from app.ledger.codes import BatchCount, list_batches, make_codes, redeem_code, void_codes
from app.models import CreditEntry
from tests.harness.postgres import Database
from tests.ledger.calls import Payer, account, make_key
from tests.ledger.payments import assert_entries_are_the_credit, entries
from tests.ledger.replica import Replica, at_once, replicas


@pytest.fixture(scope="module")
def pair(db: Database) -> Iterator[list[Replica]]:
    with replicas(db.url, 2) as started:
        yield started
        assert [replica.errors for replica in started] == [[], []], "the database refused something, as by a deadlock"


@pytest.fixture
def ledger(pair: list[Replica]) -> Replica:
    return pair[0]


def made(replica: Replica, count: int = 1, **wanted: Any) -> tuple[int, list[str]]:
    async def make() -> tuple[int, list[str]]:
        async with replica.database.transaction() as session:
            details = {"amount": Decimal("2.5"), "expires_at": None, "note": "spring"} | wanted
            batch, codes = await make_codes(session, count=count, **details)
            return batch.id, codes

    return replica.run(make())


async def redeeming(replica: Replica, payer: Payer, code: str) -> str:
    """`entry`, or the code of the error."""
    try:
        async with replica.database.transaction() as session:
            user = {"user_id": payer.user_id, "key_id": payer.key_id}
            answer = await redeem_code(session, text=code, default_credit=Decimal(0), **user)
    except ProxyError as error:
        answer = error
    return "entry" if isinstance(answer, CreditEntry) else answer.code


def redeem(replica: Replica, payer: Payer, code: str) -> str:
    return replica.run(redeeming(replica, payer, code))


def counted(replica: Replica, batch_id: int) -> BatchCount:
    async def count() -> BatchCount:
        async with replica.database.reading() as session:
            return next(row for row in (await list_batches(session, limit=500, cursor=None)).rows if row.batch.id == batch_id)

    return replica.run(count())


def void(replica: Replica, batch_id: int) -> None:
    async def voiding() -> None:
        async with replica.database.transaction() as session:
            await void_codes(session, batch_id=batch_id)

    replica.run(voiding())


def test_a_code_is_credit_once(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payer, other = new_payer(), new_payer()
    batch, [code, _] = made(ledger, 2)

    answers = [redeem(ledger, who, code.lower()) for who in (payer, payer, other)]

    assert answers == ["entry", "code_redeemed", "code_redeemed"]
    entry = db.one("SELECT amount, note, code_id FROM aigcspace.credit_entry WHERE user_id = $1", payer.user_id)
    assert (entry["amount"], entry["note"], entry["code_id"] is not None) == (Decimal("2.5"), "spring", True)
    assert account(db, payer.user_id)["available"] == Decimal("2.5")
    count = counted(ledger, batch)
    assert (count.made, count.redeemed, count.open) == (2, 1, 1)


def test_of_many_that_come_at_once_one_gets_the_money(pair: list[Replica], db: Database, new_payer: Callable[..., Payer]) -> None:
    payers = [new_payer() for _ in range(4)]
    _, [code] = made(pair[0])
    answers: Counter[str] = Counter()

    async def many(replica: Replica) -> list[str]:
        return await asyncio.gather(*(redeeming(replica, payer, code) for payer in payers for _ in range(2)))

    at_once(pair, lambda replica: answers.update(replica.run(many(replica))))

    assert answers == {"entry": 1, "code_redeemed": 15}
    assert sorted(account(db, payer.user_id)["credit"] for payer in payers) == [0, 0, 0, Decimal("2.5")]
    for payer in payers:
        assert_entries_are_the_credit(db, payer.user_id)


def test_an_expired_and_a_voided_code_are_told_apart(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer()
    expired, [late] = made(ledger, expires_at=datetime.now(UTC) + timedelta(hours=1))
    voided, [used, void_one] = made(ledger, 2)
    db.execute("UPDATE aigcspace.code_batch SET expires_at = now() - interval '1 second' WHERE id = $1", expired)
    assert redeem(ledger, payer, used) == "entry"

    void(ledger, voided)

    assert [redeem(ledger, payer, code) for code in (late, void_one, used)] == ["code_expired", "code_voided", "code_redeemed"]
    assert (counted(ledger, expired).expired, counted(ledger, voided).voided, counted(ledger, voided).redeemed) == (1, 1, 1)
    assert entries(db, payer.user_id) == [Decimal("2.5")]


def test_voiding_waits_for_those_who_are_redeeming(pair: list[Replica], db: Database, new_payer: Callable[..., Payer]) -> None:
    """So that what it says is left is what stays so."""
    payer = new_payer()
    batch, codes = made(pair[0], 8)
    told: list[BatchCount] = []

    async def voiding() -> BatchCount:
        async with pair[1].database.transaction() as session:
            return await void_codes(session, batch_id=batch)

    async def all_of_them() -> list[str]:
        return await asyncio.gather(*(redeeming(pair[0], payer, code) for code in codes))

    at_once(pair, lambda replica: told.append(replica.run(voiding())) if replica is pair[1] else replica.run(all_of_them()))

    assert told[0].redeemed == counted(pair[0], batch).redeemed == len(entries(db, payer.user_id))


def test_who_guesses_has_to_wait(
    pair: list[Replica], db: Database, new_payer: Callable[..., Payer], monkeypatch: pytest.MonkeyPatch
) -> None:
    payer = new_payer()
    other = Payer(payer.user_id, make_key(db, payer.user_id))
    monkeypatch.setattr(codes_module, "GUESS_EVERY", 3600.0)
    _, [code] = made(pair[0])
    answers: Counter[str] = Counter()

    async def guess(replica: Replica) -> list[str]:
        return await asyncio.gather(*(redeeming(replica, payer, new_code()) for _ in range(6)))

    at_once(pair, lambda replica: answers.update(replica.run(guess(replica))))

    assert answers == {"code_unknown": 5, "too_many_guesses": 7}
    assert [redeem(pair[0], payer, code) for _ in range(2)] == ["too_many_guesses"] * 2, "a right one tells nothing either"
    assert redeem(pair[0], other, code) == "entry", "another key doesn't have to wait"
    db.execute("UPDATE aigcspace.code_guesses SET drained_at = now() - interval '61 minutes' WHERE key_id = $1", payer.key_id)
    assert [redeem(pair[0], payer, new_code()) for _ in range(2)] == ["code_unknown", "too_many_guesses"]


def test_a_mistyped_code_is_no_guess(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer()
    _, [code] = made(ledger)
    wrong = code[:-1] + ("0" if code[-1] != "0" else "1")

    assert [redeem(ledger, payer, wrong) for _ in range(8)] == ["code_mistyped"] * 8
    assert redeem(ledger, payer, code) == "entry"


def test_the_database_has_no_code(ledger: Replica, db: Database) -> None:
    batch, [code] = made(ledger)

    [kept] = db.fetch("SELECT to_jsonb(c)::text AS text FROM aigcspace.redemption_code c WHERE batch_id = $1", batch)

    assert code.replace("-", "")[:8] not in kept["text"].replace("-", "")
    assert len(kept["text"]) < 250


LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "wrong", [{"amount": Decimal(0)}, {"amount": Decimal("0.00001")}, {"count": 0}, {"count": 1001}, {"expires_at": LONG_AGO}]
)
def test_a_batch_that_makes_no_sense(ledger: Replica, wrong: dict[str, Any]) -> None:
    with pytest.raises(UnacceptableValue):
        made(ledger, **wrong)
