"""The audit finds what does not add up, and nothing in books that are right, however busy they are."""

import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal

import pytest

from app.database import Database as Engine
from app.ledger import audit as audit_module
from app.ledger import audit_report
from app.ledger.audit import audit
from app.ledger.audit_report import Difference, Report
from tests.harness.background import Background
from tests.harness.books import wait_until
from tests.harness.postgres import Database, Databases
from tests.ledger.calls import Call, Payer, holds, make_key, make_payer
from tests.ledger.payments import posting, refunding
from tests.ledger.replica import Replica, at_once, replicas
from tests.ledger.sums import sum_up_periods

LEASE = 0.6
HOURS = "aigcspace.usage_hourly"
DIMENSIONS = "user_id, api_key_id, model_name, upstream_id, api, status, is_local"
Audit = Callable[..., Report]


@pytest.fixture
def db(databases: Databases) -> Iterator[Database]:
    """One for each test: an audit is about the whole of it."""
    with databases.fresh() as database:
        yield database


@pytest.fixture
def ledger(db: Database) -> Iterator[Replica]:
    replica = Replica(db.url)
    yield replica
    replica.close()


@pytest.fixture
def run_audit(db: Database, background: Background) -> Audit:
    """`lease`, `progress`: as the audit takes them."""

    def run(**wanted: object) -> Report:
        return background.run(audit(Engine(db.url), **({"lease": 30.0} | wanted)))

    return run


@pytest.fixture
def payer(ledger: Replica, db: Database) -> Payer:
    """Has four calls behind them, one of them partly written off, and one in flight."""
    made = make_payer(db, credit="10")
    calls = [made.call("0.00012"), made.call("0.12345"), made.call("1"), made.call("20", ceiling=Decimal(1))]
    ledger.hold(*calls)
    for call in calls:
        ledger.settle(call)
    post(ledger, made)
    ledger.hold(made.call("2"))
    return made


def post(ledger: Replica, payer: Payer) -> None:
    ledger.run(posting(ledger, payer.user_id, "5"))


def refund_of_one(ledger: Replica, db: Database, payer: Payer) -> None:
    """Half of the call that cost 1."""
    request_id = db.value("SELECT request_id FROM aigcspace.api_call_log WHERE charge = 1 ORDER BY id LIMIT 1")
    ledger.run(refunding(ledger, Call(payer.user_id, payer.key_id, Decimal(1), request_id=request_id), "0.5"))


def differing(report: Report) -> dict[str, list[Difference]]:
    return {check.name: list(check.differences) for check in report.checks if check.differing}


def drop(db: Database, constraint: str, table: str) -> None:
    db.execute(f"ALTER TABLE aigcspace.{table} DROP CONSTRAINT {constraint}")


def copy_row(db: Database, request_id: str) -> None:
    """`request_id`: SQL for that of the copy."""
    columns = "user_id, api_key_id, model_name, is_local, input_tokens, output_tokens, bill, status, charge, write_off, api, settled_at"
    db.execute(f"""
        INSERT INTO aigcspace.api_call_log (request_id, {columns})
        SELECT {request_id}, {columns} FROM aigcspace.api_call_log WHERE charge = 1
    """)


class TestFaults:
    def test_a_changed_bill(self, payer: Payer, db: Database, run_audit: Audit) -> None:
        db.execute("UPDATE aigcspace.api_call_log SET bill = bill + 1 WHERE charge = 1")

        found = differing(run_audit())

        assert found.keys() == {"billed", "bill", "roll_ups"}
        [billed] = found["billed"]
        assert (billed.subject, billed.expected - billed.found) == (payer.user_id, 1)
        assert [(row.expected, row.found) for row in found["bill"]] == [(1, 2)]
        assert [(hour.expected, hour.found) for hour in found["roll_ups"]] == [("bill 1.0000", "nothing")]

    def test_a_bill_changed_by_the_least(self, payer: Payer, db: Database, run_audit: Audit) -> None:
        db.execute("UPDATE aigcspace.api_call_log SET bill = bill - 0.0001 WHERE charge = 1")
        assert differing(run_audit()).keys() == {"billed", "roll_ups"}

    def test_a_changed_charge(self, payer: Payer, db: Database, run_audit: Audit) -> None:
        db.execute("UPDATE aigcspace.api_call_log SET charge = charge + 0.0000000001 WHERE charge = 1")
        assert differing(run_audit()).keys() == {"spent", "key_spent", "roll_ups"}

    @pytest.mark.parametrize("charge", ["NULL", "'NaN'", "-1"])
    def test_a_charge_that_is_none(self, payer: Payer, db: Database, run_audit: Audit, charge: str) -> None:
        db.execute(f"UPDATE aigcspace.api_call_log SET charge = {charge} WHERE charge = 1")
        assert differing(run_audit()).keys() == {"spent", "key_spent", "bill", "roll_ups"}

    def test_a_changed_write_off(self, payer: Payer, db: Database, run_audit: Audit) -> None:
        db.execute("UPDATE aigcspace.api_call_log SET write_off = 1 WHERE charge = 1")

        found = differing(run_audit())

        assert found.keys() == {"written_off", "roll_ups"}
        [written_off] = found["written_off"]
        assert written_off.expected - written_off.found == 1

    def test_a_missing_row(self, payer: Payer, db: Database, run_audit: Audit) -> None:
        db.execute("DELETE FROM aigcspace.api_call_log WHERE charge = 1")

        found = differing(run_audit())

        assert found.keys() == {"billed", "spent", "key_spent", "roll_ups"}
        [hour] = found["roll_ups"]
        assert hour.found == "calls 1, input_tokens 10, output_tokens 5, charge 1.0000000000, bill 1.0000"
        assert f"{payer.user_id}, key {payer.key_id}, model, upstream 0, chat_completions, success" in hour.subject

    def test_a_row_too_many(self, payer: Payer, db: Database, run_audit: Audit) -> None:
        copy_row(db, "gen_random_uuid()")
        assert differing(run_audit()).keys() == {"billed", "spent", "key_spent", "roll_ups"}

    def test_a_call_with_two_rows(self, payer: Payer, db: Database, run_audit: Audit) -> None:
        drop(db, "uq_api_call_log_request_id", "api_call_log")
        copy_row(db, "request_id")

        found = differing(run_audit())

        assert found.keys() == {"billed", "spent", "key_spent", "roll_ups", "one_row"}
        assert [(call.expected, call.found) for call in found["one_row"]] == [(1, 2)]

    def test_a_dropped_constraint_alone_is_no_difference(self, payer: Payer, db: Database, run_audit: Audit) -> None:
        drop(db, "uq_api_call_log_request_id", "api_call_log")
        assert differing(run_audit()) == {}

    @pytest.mark.parametrize(
        "change",
        [
            "UPDATE aigcspace.usage_hourly SET charge = charge + 1",
            "UPDATE aigcspace.usage_hourly SET charge = 'NaN'",
            "UPDATE aigcspace.usage_hourly SET cache_read_tokens = 1",
            "UPDATE aigcspace.usage_hourly SET latencies = 1e1200",
            "UPDATE aigcspace.usage_hourly SET hour = hour + interval '40 days'",
            "UPDATE aigcspace.usage_hourly SET api_key_id = api_key_id + 1",
            "DELETE FROM aigcspace.usage_hourly",
            f"INSERT INTO {HOURS} SELECT hour + interval '1 day', {DIMENSIONS}, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0 FROM {HOURS}",
        ],
    )
    def test_a_wrong_roll_up(self, payer: Payer, db: Database, run_audit: Audit, change: str) -> None:
        db.execute(change)
        assert differing(run_audit()).keys() == {"roll_ups", "periods"}

    @pytest.mark.parametrize(
        "change",
        [
            "UPDATE aigcspace.usage_period SET calls = calls + 1 WHERE period = 'day'",
            "UPDATE aigcspace.usage_period SET charge = 'NaN' WHERE period = 'month'",
            "UPDATE aigcspace.usage_period SET first_tokens = 1e120 WHERE period = 'month'",
            "UPDATE aigcspace.usage_period SET bill = bill + 1 WHERE period = 'user'",
            "DELETE FROM aigcspace.usage_period WHERE period = 'day'",
        ],
    )
    def test_a_wrong_sum_of_a_period(self, payer: Payer, db: Database, run_audit: Audit, change: str) -> None:
        db.execute(change)
        assert differing(run_audit()).keys() == {"periods"}

    def test_a_changed_latency(self, payer: Payer, db: Database, run_audit: Audit) -> None:
        db.execute("UPDATE aigcspace.api_call_log SET latency_ms = 5 WHERE charge = 1")
        assert differing(run_audit()).keys() == {"roll_ups"}

    def test_a_wrong_roll_up_beside_a_deleted_key(self, payer: Payer, db: Database, run_audit: Audit) -> None:
        db.execute("DELETE FROM aigcspace.platform_api_key")
        db.execute("UPDATE aigcspace.usage_hourly SET calls = calls + 2")

        found = differing(run_audit())

        assert [(hour.expected, hour.found) for hour in found.pop("roll_ups")] == [("nothing", "calls 2")]
        del found["periods"]
        assert found == {}

    def test_a_changed_credit_entry(self, payer: Payer, db: Database, run_audit: Audit) -> None:
        db.execute("UPDATE aigcspace.credit_entry SET amount = 4 WHERE amount = 5")
        assert differing(run_audit()) == {"credit": [Difference(payer.user_id, Decimal(14), Decimal(15))]}

    @pytest.mark.parametrize("change", ["api_call_log SET bill = 0.25", "credit_entry SET request_id = gen_random_uuid()"])
    def test_a_refund_above_the_bill(self, payer: Payer, ledger: Replica, db: Database, run_audit: Audit, change: str) -> None:
        refund_of_one(ledger, db, payer)
        db.execute(f"UPDATE aigcspace.{change} WHERE request_id IN (SELECT request_id FROM aigcspace.credit_entry)")

        [refund] = differing(run_audit())["refunds"]

        assert (refund.expected, refund.found) in ((Decimal("0.25"), Decimal("0.5")), (0, Decimal("0.5")))

    @pytest.mark.parametrize(
        ("change", "name"),
        [
            ("account SET held = held + 1", "held"),
            ("account SET written_off = written_off + 1", "written_off"),
            ("account SET credit = credit + 1", "credit"),
            ("key_meter SET held = held + 1", "key_held"),
            ("key_meter SET in_flight = in_flight + 1", "key_in_flight"),
            ("account SET in_flight = in_flight + 1", "in_flight"),
            ("key_meter SET spent = spent + 1", "key_spent"),
            ("key_meter SET spent = 0", "key_spent"),
            ("key_meter SET spent = 'NaN'", "key_spent"),
        ],
    )
    def test_a_sum_that_is_not_what_it_sums_up(self, payer: Payer, db: Database, run_audit: Audit, change: str, name: str) -> None:
        db.execute(f"UPDATE aigcspace.{change}")
        assert differing(run_audit()).keys() == {name}

    def test_bills_that_left_their_charges(self, payer: Payer, db: Database, run_audit: Audit) -> None:
        drop(db, "ck_account_billed", "account")
        db.execute("UPDATE aigcspace.account SET billed = billed + 0.0001")
        assert differing(run_audit()).keys() == {"billed", "cut"}

    def test_less_than_nothing_available(self, payer: Payer, db: Database, run_audit: Audit) -> None:
        drop(db, "ck_account_available", "account")
        db.execute("UPDATE aigcspace.credit_entry SET amount = -4 WHERE amount = 10")
        db.execute("UPDATE aigcspace.account SET credit = 1")
        [account] = differing(run_audit())["available"]
        assert (account.expected, account.found < 0) == (0, True)

    def test_an_account_that_was_deleted(self, payer: Payer, db: Database, run_audit: Audit) -> None:
        db.execute("DELETE FROM aigcspace.account")
        assert differing(run_audit()).keys() == {"billed", "spent", "written_off", "held", "roll_ups"}

    def test_a_hold_of_nobody(self, payer: Payer, db: Database, run_audit: Audit) -> None:
        db.execute(
            """INSERT INTO aigcspace.call_hold (request_id, user_id, api_key_id, instance_id, amount, tokens, open_ended, entry)
            VALUES (gen_random_uuid(), $1, $2, gen_random_uuid(), 1, 0, false, '{}')""",
            *(payer.user_id, payer.key_id),
        )

        report = run_audit()

        assert differing(report).keys() == {"held", "in_flight", "key_held", "key_in_flight", "owners"}
        assert report.holds == 2

    def test_a_hold_whose_process_is_gone(self, payer: Payer, db: Database, run_audit: Audit) -> None:
        db.execute("UPDATE aigcspace.call_hold SET created_at = created_at - interval '1 hour'")
        db.execute("DELETE FROM aigcspace.instance")

        report = run_audit()

        [hold] = differing(report)["owners"]
        assert hold.found.endswith("is gone")
        assert f"of {payer.user_id}, holding 2.0000000000, 360" in hold.subject
        assert 3600 <= report.oldest_hold < 3660

    def test_a_hold_whose_process_was_not_heard_of_for_two_leases(self, payer: Payer, db: Database, run_audit: Audit) -> None:
        db.execute("UPDATE aigcspace.instance SET lease_until = clock_timestamp() - interval '20 seconds'")

        assert differing(run_audit(lease=25.0)) == {}
        assert differing(run_audit(lease=15.0)).keys() == {"owners"}

    def test_a_hold_beside_a_final_row(self, payer: Payer, db: Database, run_audit: Audit) -> None:
        db.execute("""
            UPDATE aigcspace.call_hold SET request_id = (SELECT request_id FROM aigcspace.api_call_log WHERE charge = 1)
        """)

        found = differing(run_audit())

        assert found.keys() == {"one_end"}
        assert [(hold.expected, hold.found) for hold in found["one_end"]] == [("none", 2)]

    def test_many_differences_are_counted_and_some_are_told(
        self, payer: Payer, db: Database, run_audit: Audit, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(audit_report, "KEPT", 2)
        db.execute("UPDATE aigcspace.api_call_log SET bill = bill + 1")

        [check] = [check for check in run_audit().checks if check.name == "bill"]

        assert (check.checked, check.differing, len(check.differences)) == (4, 4, 2)


class TestRightBooks:
    def test_an_empty_ledger(self, run_audit: Audit) -> None:
        report = run_audit()
        assert (differing(report), report.users, report.rows, report.holds, report.oldest_hold) == ({}, 0, 0, 0, None)

    def test_ordinary_calls_write_offs_and_payments(self, payer: Payer, run_audit: Audit) -> None:
        report = run_audit()
        assert (differing(report), report.users, report.rows, report.holds) == ({}, 1, 4, 1)
        assert report.oldest_hold is not None

    def test_rows_of_the_platforms_own(self, payer: Payer, db: Database, run_audit: Audit) -> None:
        db.execute("INSERT INTO aigcspace.users (id) VALUES ('theirs')")
        for user_id in ("theirs", payer.user_id):
            db.execute(
                """INSERT INTO aigcspace.api_call_log (user_id, model_name, is_local, input_tokens, output_tokens, bill, status)
                VALUES ($1, 'model', false, 1, 1, 3, 'success')""",
                user_id,
            )
        report = run_audit()
        assert (differing(report), report.rows) == ({}, 4)

    def test_orphans_and_those_that_were_amended(self, payer: Payer, db: Database, run_audit: Audit) -> None:
        calls = [payer.call("0.5") for _ in range(2)]
        dying, survivor = Replica(db.url, lease=LEASE), Replica(db.url, lease=LEASE)
        try:
            dying.hold(*calls)
            dying.close()
            wait_until(lambda: holds(db, payer.user_id) == 1, what="holds of the dead have ended")
            assert differing(run_audit()) == {}

            survivor.settle(calls[0])
        finally:
            survivor.close()

        assert db.value("SELECT count(*) FROM aigcspace.api_call_log WHERE amended_at IS NOT NULL") == 1
        assert differing(run_audit()) == {}

    def test_refunds(self, payer: Payer, ledger: Replica, db: Database, run_audit: Audit) -> None:
        refund_of_one(ledger, db, payer)
        refund_of_one(ledger, db, payer)
        assert differing(run_audit()) == {}

    def test_voided_holds(self, payer: Payer, db: Database, run_audit: Audit) -> None:
        db.execute("SELECT aigcspace.void(array_agg(request_id), 200) FROM aigcspace.call_hold")
        report = run_audit()
        assert (differing(report), report.holds) == ({}, 0)

    def test_a_deleted_key(self, payer: Payer, ledger: Replica, db: Database, run_audit: Audit) -> None:
        other = Payer(payer.user_id, make_key(db, payer.user_id))
        call = other.call("1")
        ledger.hold(call)
        db.execute("DELETE FROM aigcspace.platform_api_key WHERE id = $1", payer.key_id)
        ledger.settle(call, payer.call("0.25"), payer.call("0").using(api_key_id=None))
        assert differing(run_audit()) == {}

    def test_a_purged_user(self, payer: Payer, db: Database, run_audit: Audit) -> None:
        make_payer(db, credit="3")
        db.execute("DELETE FROM aigcspace.users WHERE id = $1", payer.user_id)
        report = run_audit()
        assert (differing(report), report.users, report.rows) == ({}, 1, 0)

    def test_someone_new_with_the_id_of_a_purged_user(self, payer: Payer, ledger: Replica, db: Database, run_audit: Audit) -> None:
        db.execute("UPDATE aigcspace.usage_hourly SET hour = hour - interval '1 day'")
        db.execute("DELETE FROM aigcspace.users")
        db.execute("INSERT INTO aigcspace.users (id) VALUES ($1)", payer.user_id)
        assert differing(run_audit()).keys() == {"periods"}  # whose hours were moved here

        post(ledger, payer)
        ledger.settle(Payer(payer.user_id, make_key(db, payer.user_id)).call("1"))

        assert differing(run_audit()).keys() == {"periods"}

    def test_a_key_whose_earlier_user_was_purged(self, payer: Payer, ledger: Replica, db: Database, run_audit: Audit) -> None:
        db.execute("SELECT aigcspace.void(array_agg(request_id), 200) FROM aigcspace.call_hold")
        heir = Payer(make_payer(db, credit="10").user_id, payer.key_id)
        db.execute("UPDATE aigcspace.platform_api_key SET user_id = $1 WHERE id = $2", heir.user_id, heir.key_id)
        ledger.hold(call := heir.call("1"))
        ledger.settle(call)
        assert differing(run_audit()) == {}

        db.execute("DELETE FROM aigcspace.users WHERE id = $1", payer.user_id)

        assert differing(run_audit()) == {}
        db.execute("UPDATE aigcspace.key_meter SET spent = 0 WHERE key_id = $1", payer.key_id)
        assert differing(run_audit()).keys() == {"key_spent"}

    def test_rows_of_many_hours(self, payer: Payer, db: Database, run_audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
        """In chunks of one, with the oldest hours last, and ids far apart."""
        monkeypatch.setattr(audit_module, "CHUNK", 1)
        db.execute("UPDATE aigcspace.account SET created_at = created_at - interval '10 days'")
        db.execute("""
            UPDATE aigcspace.api_call_log SET settled_at = settled_at - make_interval(hours => id::int), id = id * 1000000007
        """)
        db.execute("DELETE FROM aigcspace.usage_hourly")
        db.execute("""
            INSERT INTO aigcspace.usage_hourly
            SELECT date_trunc('hour', settled_at, 'UTC'), user_id, api_key_id, model_name, 0, api, status, is_local, count(*),
                sum(input_tokens), sum(output_tokens), 0, 0, 0, sum(charge), sum(bill), sum(write_off)
            FROM aigcspace.api_call_log GROUP BY 1, 2, 3, 4, 6, 7, 8
        """)
        sum_up_periods(db)
        seen: list[tuple[int, int]] = []

        report = run_audit(progress=lambda done, total: seen.append((done, total)))

        assert (differing(report), report.rows) == ({}, 4)
        assert [done for done, _ in seen] == [1, 2, 3, 4]
        assert all(total >= done for done, total in seen)
        db.execute("UPDATE aigcspace.usage_hourly SET calls = 2 WHERE hour = (SELECT min(hour) FROM aigcspace.usage_hourly)")
        assert [(hour.expected, hour.found) for hour in differing(run_audit())["roll_ups"]] == [("nothing", "calls 1")]


class TestBesideCalls:
    def test_calls_go_on_and_the_audit_does_not_see_them(
        self, payer: Payer, ledger: Replica, run_audit: Audit, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(audit_module, "CHUNK", 1)
        ended: list[Call] = []

        def meanwhile(_done: int, _total: int) -> None:
            call = payer.call("0.1")
            ledger.hold(call)
            ledger.settle(call)
            post(ledger, payer)
            ended.append(call)

        report = run_audit(progress=meanwhile)

        assert (differing(report), report.rows, len(ended)) == ({}, 4, 4)
        after = run_audit()
        assert (differing(after), after.rows) == ({}, 8)

    def test_it_locks_nothing_that_anybody_waits_for(self, payer: Payer, ledger: Replica, db: Database) -> None:
        locks = """
            SELECT DISTINCT mode FROM pg_locks JOIN pg_stat_activity USING (pid)
            WHERE application_name = 'billing-proxy audit' AND datname = current_database() AND locktype <> 'virtualxid'
        """
        seen: list[str] = []

        ledger.run(audit(ledger.database, lease=30.0, progress=lambda _done, _total: seen.extend(row["mode"] for row in db.fetch(locks))))

        assert seen == ["AccessShareLock"]

    def test_no_time_limit_of_the_database_ends_it(self, payer: Payer, db: Database, run_audit: Audit) -> None:
        name = db.value("SELECT current_database()")
        db.execute(f'ALTER DATABASE "{name}" SET idle_in_transaction_session_timeout = 50')
        assert differing(run_audit(progress=lambda _done, _total: time.sleep(0.3))) == {}

    def test_busy_books_are_right(self, db: Database, run_audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(audit_module, "CHUNK", 50)
        payers = [make_payer(db, credit="100") for _ in range(3)]
        over = threading.Event()

        def work(replica: Replica) -> None:
            number = 0
            while not over.is_set():
                calls = [payer.call(f"0.0{number % 7}123", ceiling=Decimal("0.04")) for payer in payers for _ in range(3)]
                replica.hold(*calls)
                replica.settle(*calls)
                replica.run(posting(replica, payers[number % 3].user_id, "1"))
                number += 1

        with replicas(db.url, 2) as busy:
            working = threading.Thread(target=at_once, args=(busy, work))
            working.start()
            try:
                reports = [run_audit() for _ in range(12)]
            finally:
                over.set()
                working.join(60)

        assert [differing(report) for report in reports] == [{}] * 12
        assert reports[-1].rows > reports[0].rows
