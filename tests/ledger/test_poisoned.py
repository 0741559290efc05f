"""One call that the database can't take is stored without what is wrong with it: those that share its batch are settled and
granted all the same, and its own hold doesn't stay."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.errors import Unavailable
from app.ledger import replay
from app.ledger.hold import Hold
from app.ledger.outcome import Outcome
from tests.harness.books import wait_until
from tests.harness.postgres import Database
from tests.ledger.calls import Call, Payer, account, holds, meter, rows
from tests.ledger.replica import Replica

BAD_ROWS: dict[str, dict[str, Any]] = {
    "a cost that is NaN": {"cost": "NaN"},
    "an infinite cost": {"cost": "Infinity"},
    "a negative cost": {"cost": "-0.0000000001"},
    "no cost": {"cost": None},
    "a cost in words": {"cost": "free"},
    "a cost beyond reason": {"cost": "1e12"},
    "a name too long": {"model_name": "m" * 256},
    "no name": {"model_name": None},
    "a name with NUL": {"model_name": "a\x00b"},
    "a name with half a character": {"model_name": "\ud800"},
    "a status too long": {"status": "s" * 21},
    "an address too long": {"request_ip": "1" * 51},
    "tokens beyond the column": {"input_tokens": 2**31},
    "tokens beyond all columns": {"input_tokens": 10**30},
    "tokens that are text": {"output_tokens": "many"},
    "half a token": {"output_tokens": 1.5},
    "tokens of NaN": {"output_tokens": float("nan")},
    "tokens in a list": {"input_tokens": [1]},
    "no tokens": {"input_tokens": None},
    "flags that are no list": {"flags": "flag"},
    "an id that is no id": {"request_id": "1"},
    "a key that is no number": {"api_key_id": "key"},
}
BAD_BYTES = {
    "cut off": b'{"request_id": "',
    "not UTF-8": b'{"model_name": "\xff"}',
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "two": b"{},{}",
    "the end of the batch": b"]",
}


async def settle_with_neighbours(ledger: Replica, good: list[Call], bad: Outcome) -> None:
    """The bad one in the middle of one batch."""
    half = len(good) // 2
    first = [ledger.settlement.submit(call.outcome()) for call in good[:half]]
    middle = ledger.settlement.submit(bad)
    last = [ledger.settlement.submit(call.outcome()) for call in good[half:]]
    for future in (*first, middle, *last):
        await future


def assert_is_reduced(ledger: Replica, db: Database, payer: Payer, call: Call, bad: Outcome, *, cost: int) -> None:
    good = [payer.call("1") for _ in range(4)]
    ledger.hold(*good, call)

    ledger.run(settle_with_neighbours(ledger, good, bad))

    flags = {row["request_id"]: row["flags"] for row in rows(db, payer.user_id)}
    assert flags == {other.request_id: None for other in good} | {call.request_id: ["reduced"]}
    assert holds(db, payer.user_id) == 0
    assert (account(db, payer.user_id)["spent"], account(db, payer.user_id)["held"]) == (4 + cost, 0)
    kept = meter(db, payer.key_id)
    assert (kept["in_flight"], kept["held"], kept["spent"]) == (0, 0, 4 + cost)


@pytest.mark.parametrize("what", BAD_ROWS)
def test_a_row_that_cannot_be_stored_is_reduced(ledger: Replica, db: Database, new_payer: Callable[..., Payer], what: str) -> None:
    payer = new_payer(credit="10")
    call = payer.call("1")

    cost = 0 if "cost" in BAD_ROWS[what] else 1
    assert_is_reduced(ledger, db, payer, call, call.using(**BAD_ROWS[what]).outcome(), cost=cost)


@pytest.mark.parametrize("what", BAD_BYTES)
def test_an_entry_that_is_no_object_leaves_a_row_all_the_same(
    ledger: Replica, db: Database, new_payer: Callable[..., Payer], what: str
) -> None:
    payer = new_payer(credit="10")
    call = payer.call("1")

    assert_is_reduced(ledger, db, payer, call, Outcome(call.request_id, payer.user_id, BAD_BYTES[what]), cost=0)


def test_many_bad_ones_among_many(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="100")
    good, bad = [payer.call("0.1") for _ in range(200)], [payer.call("0.1") for _ in range(7)]
    ledger.hold(*good, *bad)
    calls = sorted([*good, *(call.using(request_ip="1" * 51) for call in bad)], key=lambda call: call.request_id.int % 101)

    ledger.run(ledger.settling(calls))

    reduced = [row for row in rows(db, payer.user_id) if row["flags"]]
    assert {row["request_id"] for row in reduced} == {call.request_id for call in bad}
    assert len(rows(db, payer.user_id)) == len(good) + len(bad)
    assert (account(db, payer.user_id)["held"], account(db, payer.user_id)["spent"]) == (0, Decimal("20.7"))


BAD_HOLDS: dict[str, dict[str, Any]] = {
    "NaN": {"amount": Decimal("NaN")},
    "negative": {"amount": Decimal("-0.0000000001")},
    "no JSON": {"entry": "{"},
    "an entry with NUL": {"entry": '{"a": "\\u0000"}'},
    "tokens beyond the column": {"tokens": 2**63},
}


async def reserve_with_neighbours(ledger: Replica, good: list[Call], bad: Hold) -> list[Any]:
    submitted = [*(call.hold() for call in good[:2]), bad, *(call.hold() for call in good[2:])]
    futures = [ledger.holds._group.submit(hold) for hold in submitted]
    endings = []
    for future in futures:
        try:
            endings.append((await future).outcome)
        except Exception as error:  # noqa: BLE001
            endings.append(error)
    return endings


@pytest.mark.parametrize("what", BAD_HOLDS)
def test_a_hold_that_cannot_be_made_refuses_no_other(ledger: Replica, db: Database, new_payer: Callable[..., Payer], what: str) -> None:
    payer = new_payer(credit="10")
    good = [payer.call("1") for _ in range(4)]

    endings = ledger.run(reserve_with_neighbours(ledger, good, replace(payer.call("1").hold(), **BAD_HOLDS[what])))

    assert endings[:2] + endings[3:] == ["granted"] * 4
    assert endings[2] != "granted"
    assert not isinstance(endings[2], Unavailable)
    assert account(db, payer.user_id)["held"] == 4


@contextmanager
def refusing_rows(db: Database) -> Iterator[None]:
    """A table may have rules of the platform's own."""
    db.execute(
        """
        CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION USING MESSAGE = ''not today''; END';
        CREATE TRIGGER refuse BEFORE INSERT ON aigcspace.api_call_log FOR EACH ROW EXECUTE FUNCTION public.refuse();
        """
    )
    yield
    db.execute("DROP FUNCTION public.refuse() CASCADE")


def test_a_row_that_is_rejected_whatever_is_left_of_it_stands_in_the_spool(
    db: Database, new_payer: Callable[..., Payer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last byte waits for the spool, and whoever finds the spool tries again, until its row can be stored."""
    monkeypatch.setattr(replay, "LOOK_EVERY", 0.05)
    payer = new_payer(credit="10")
    call = payer.call("1")

    def spooled() -> bytes:
        return b"".join(segment.read_bytes() for segment in tmp_path.iterdir())

    async def secured() -> None:
        committed = first.settlement.submit(call.outcome())
        await first.settlement.secure(call.outcome(), committed, wait=5)
        assert committed.exception() is not None

    with refusing_rows(db):
        with closing(Replica(db.url, spool=tmp_path)) as first:
            first.hold(call)
            first.run(secured())
            assert call.outcome().entry in spooled()
            first.run(first.ledger.finish(5))
            assert first.settlement.unsettled == 1
        with closing(Replica(db.url, spool=tmp_path)) as second:
            wait_until(lambda: second.ledger.replay.left == 1, what="it was tried again, in vain")
        assert call.outcome().entry in spooled()
    assert rows(db, payer.user_id) == []

    with closing(Replica(db.url, spool=tmp_path)):
        wait_until(lambda: rows(db, payer.user_id), what="its row")
        wait_until(lambda: not list(tmp_path.iterdir()), what="the segment is gone")
    assert (account(db, payer.user_id)["spent"], holds(db, payer.user_id)) == (1, 0)
