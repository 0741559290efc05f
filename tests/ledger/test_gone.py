"""Users are purged and keys deleted while their calls are in flight: nothing fails, and nobody else notices."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tests.harness.postgres import Database
from tests.ledger.calls import Payer, account, make_payer, rows
from tests.ledger.replica import Replica
from tests.ledger.sums import check_at_rest


def delete_key(db: Database, payer: Payer) -> None:
    db.execute("DELETE FROM aigcspace.platform_api_key WHERE id = $1", payer.key_id)


def purge(db: Database, payer: Payer) -> None:
    db.execute("DELETE FROM aigcspace.users WHERE id = $1", payer.user_id)


def test_a_call_of_a_deleted_key_is_paid_and_has_no_key(ledger: Replica, db: Database) -> None:
    payer = make_payer(db, credit="10")
    call = payer.call("1")
    ledger.hold(call)
    delete_key(db, payer)

    ledger.settle(call)

    (row,) = rows(db, payer.user_id)
    assert (row["api_key_id"], row["charge"]) == (None, 1)
    assert (account(db, payer.user_id)["spent"], account(db, payer.user_id)["held"]) == (1, 0)


def test_the_hours_still_say_which_key_it_was(ledger: Replica, db: Database) -> None:
    payer = make_payer(db, credit="10")
    call = payer.call("1")
    ledger.hold(call)
    delete_key(db, payer)

    ledger.settle(call)

    assert db.one("SELECT api_key_id, charge FROM aigcspace.usage_hourly WHERE user_id = $1", payer.user_id) == {
        "api_key_id": payer.key_id,
        "charge": 1,
    }


def test_rows_of_a_key_outlive_it(ledger: Replica, db: Database) -> None:
    payer = make_payer(db, credit="10")
    ledger.settle(payer.call("1"))

    delete_key(db, payer)

    assert [row["api_key_id"] for row in rows(db, payer.user_id)] == [None]
    assert account(db, payer.user_id)["spent"] == 1


def test_a_call_of_a_purged_user_is_dropped_and_those_beside_it_are_paid(
    ledger: Replica, db: Database, new_payer: Callable[..., Payer]
) -> None:
    gone, stays = make_payer(db, credit="10"), new_payer(credit="10")
    calls = [gone.call("1"), stays.call("2"), gone.call("3"), stays.call("4")]
    ledger.hold(*calls)
    purge(db, gone)

    ledger.settle(*calls)

    assert rows(db, gone.user_id) == []
    assert account(db, stays.user_id)["spent"] == 6
    check_at_rest(db, [stays.user_id])


def test_entries_and_hours_of_a_purged_user_are_kept(ledger: Replica, db: Database) -> None:
    payer = make_payer(db, credit="10")
    ledger.settle(payer.call("1"))

    purge(db, payer)

    assert db.value("SELECT sum(charge) FROM aigcspace.usage_hourly WHERE user_id = $1", payer.user_id) == 1
    assert db.value("SELECT sum(amount) FROM aigcspace.credit_entry WHERE user_id = $1", payer.user_id) == 10


def test_a_call_without_a_key_is_paid(ledger: Replica, db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="10")

    ledger.settle(payer.call("1").using(api_key_id=None))

    assert [(row["api_key_id"], row["charge"]) for row in rows(db, payer.user_id)] == [(None, 1)]


def test_users_and_keys_go_while_their_calls_are_reserved_and_settled(
    ledger: Replica, db: Database, new_payer: Callable[..., Payer]
) -> None:
    stays = new_payer(credit="1000")
    going = [make_payer(db, credit="10") for _ in range(30)]
    held = [payer.call("1") for payer in (*going, *[stays] * 30)]
    ledger.hold(*held)

    def leave() -> None:
        for number, payer in enumerate(going):
            (purge if number % 2 else delete_key)(db, payer)

    with ThreadPoolExecutor(1) as thread:
        left = thread.submit(leave)
        for number in range(30):
            ledger.settle(*held[number::30])
            assert set(ledger.outcomes(going[number].call("1"), stays.call("1"))) <= {"granted", "key_gone", "user_gone"}
        left.result(30)

    assert ledger.errors == []
    assert account(db, stays.user_id)["spent"] == 30
