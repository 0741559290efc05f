"""Statements: in any zone they are the plain sums of rows and entries, and a chain of them leads to the account's balance."""

import json
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.errors import NotFound
from app.reports.statement import Statement, statement_of
from app.spreadsheet import as_text
from tests.harness.postgres import Database
from tests.ledger.calls import Payer, account, make_key, make_payer
from tests.ledger.payments import post, refunding
from tests.ledger.replica import Replica

MONTHS = ("2024-12", "2025-01", "2025-02", "2025-03", "2025-04")
ZONES = ("UTC", "Asia/Kolkata", "Asia/Kathmandu", "America/New_York", "Pacific/Chatham", "Pacific/Kiritimati")
MINUTES = timedelta(minutes=1)
ROW = """
    INSERT INTO aigcspace.api_call_log (user_id, api_key_id, model_name, is_local, input_tokens, output_tokens, status, bill, charge,
        write_off, settled_at, created_at, request_id, api)
    VALUES ($1, $2, $3, false, $4, 1, 'success', $5, $5, $6, $7, $7 AT TIME ZONE 'Asia/Shanghai', gen_random_uuid(), 'chat')
"""
ROLL_UP = """
    INSERT INTO aigcspace.usage_hourly (hour, user_id, api_key_id, model_name, upstream_id, api, status, is_local, calls, input_tokens,
        output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, charge, bill, write_off)
    SELECT date_trunc('hour', settled_at, 'UTC'), user_id, api_key_id, model_name, 0, api, status, is_local, count(*), sum(input_tokens),
        sum(output_tokens), 0, 0, 0, sum(charge), sum(bill), sum(write_off)
    FROM aigcspace.api_call_log WHERE user_id = $1 GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
"""


def stated(replica: Replica, user_id: str, month: str, time_zone: str = "UTC") -> Statement:
    async def state() -> Statement:
        async with replica.database.reading() as session:
            return await statement_of(session, user_id=user_id, month=month, time_zone=time_zone)

    return replica.run(state())


moments = st.tuples(st.integers(1, 4), st.one_of(st.integers(-70, 70), st.integers(0, 40_000)))
"""A month of 2025, and minutes after it has begun in the zone."""
units = st.integers(0, 30_000).map(lambda unit: Decimal(unit).scaleb(-4))
calls = st.lists(st.tuples(moments, st.integers(0, 1), st.sampled_from(("one", "two")), units, units), max_size=25)
entries = st.lists(st.tuples(moments, units.filter(bool), st.booleans()), max_size=6)


ABOUT_THE_FIRST = [((month, minutes), 0, "one", Decimal(1), Decimal(0)) for month in (2, 3) for minutes in (-50, -10, 0, 10, 50)]


@settings(max_examples=20, deadline=None)
@example(ABOUT_THE_FIRST, [], "Asia/Kolkata")
@example(ABOUT_THE_FIRST, [], "Asia/Kathmandu")
@given(calls, entries, st.sampled_from(ZONES))
def test_a_statement_is_the_sum_of_its_rows(ledger: Replica, db: Database, calls: list[Any], entries: list[Any], time_zone: str) -> None:
    calls, entries = ([(_moment(row[0], time_zone), *row[1:]) for row in drawn] for drawn in (calls, entries))
    payer = make_payer(db)
    keys = [payer.key_id, make_key(db, payer.user_id)]
    for at, key, model, bill, write_off in calls:
        db.execute(ROW, payer.user_id, keys[key], model, len(model), bill, write_off, at)
    db.execute(ROLL_UP, payer.user_id)
    for at, amount, is_refund in entries:
        named = "gen_random_uuid()" if is_refund else "NULL"
        entry = f"INSERT INTO aigcspace.credit_entry (user_id, amount, created_at, request_id) VALUES ($1, $2, $3, {named})"
        db.execute(entry, payer.user_id, amount, at)
    credit, spent = sum((row[1] for row in entries), Decimal(0)), sum((row[3] for row in calls), Decimal(0))
    sums = "credit = $2, spent = $3, billed = $3, credit_limit = 1000, created_at = '2024-01-01Z'"
    db.execute(f"UPDATE aigcspace.account SET {sums} WHERE user_id = $1", payer.user_id, credit, spent)

    balance = Decimal(0)
    for month in MONTHS:
        within = _within(month, time_zone)
        statement = stated(ledger, payer.user_id, month, time_zone)
        used = defaultdict(lambda: [0, 0, Decimal(0), Decimal(0)])
        for at, key, model, bill, write_off in calls:
            if within(at):
                for place, part in enumerate((1, len(model), bill, write_off)):
                    used[model, keys[key]][place] += part
        assert {
            (line.model_name, line.api_key_id): [line.calls, line.input_tokens, line.bill, line.write_off] for line in statement.usage
        } == used
        for of_refunds, listed in ((False, statement.credits), (True, statement.refunds)):
            assert sorted(entry.amount for entry in listed) == sorted(row[1] for row in entries if within(row[0]) and row[2] == of_refunds)
        assert statement.opening_balance == balance
        balance += statement.credited + statement.refunded - statement.billed
        assert statement.closing_balance == balance
    assert balance == credit - spent


def _moment(drawn: tuple[int, int], time_zone: str) -> datetime:
    return datetime(2025, drawn[0], 1, tzinfo=ZoneInfo(time_zone)).astimezone(UTC) + drawn[1] * MINUTES


def _within(month: str, time_zone: str) -> Any:
    zone = ZoneInfo(time_zone)
    return lambda at: at.astimezone(zone).strftime("%Y-%m") == month


def test_the_current_month_ends_with_what_the_account_has(ledger: Replica, db: Database) -> None:
    payer = make_payer(db, credit="10")
    call, dear, orphan = payer.call("1.23456"), payer.call("20", ceiling=Decimal(1)), payer.call("0.5")
    post(ledger, payer, "-1.5")
    ledger.hold(call, dear)
    ledger.settle(call, dear)
    ledger.settle(orphan.using(status="failed", end_reason="orphaned", cost="0"))
    ledger.settle(orphan)
    ledger.run(refunding(ledger, call, "0.2"))

    now = account(db, payer.user_id)
    for time_zone in ("UTC", "Asia/Kathmandu"):
        month = datetime.now(ZoneInfo(time_zone)).strftime("%Y-%m")
        statement = stated(ledger, payer.user_id, month, time_zone)

        assert statement.closing_balance == now["credit"] - now["billed"]
        assert (statement.billed, statement.charged, statement.written_off) == (now["billed"], now["spent"], now["written_off"])
        assert (statement.opening_balance, statement.credited, statement.refunded) == (0, Decimal("8.5"), Decimal("0.2"))
        [line] = statement.usage
        assert (line.calls, line.api_key_id) == (3, payer.key_id)


def test_someone_new_does_not_inherit_the_statement_of_a_purged_user(ledger: Replica, db: Database) -> None:
    before = make_payer(db, credit="10")
    call = before.call("1")
    ledger.hold(call)
    ledger.settle(call)
    for table, column in (("usage_hourly", "hour"), ("credit_entry", "created_at")):
        db.execute(f"UPDATE aigcspace.{table} SET {column} = {column} - interval '2 hours' WHERE user_id = $1", before.user_id)
    db.execute("DELETE FROM aigcspace.users WHERE id = $1", before.user_id)
    db.execute("INSERT INTO aigcspace.users (id) VALUES ($1)", before.user_id)
    nothing_yet = stated(ledger, before.user_id, datetime.now(UTC).strftime("%Y-%m"))
    post(ledger, Payer(before.user_id, 0), "3")

    statement = stated(ledger, before.user_id, datetime.now(UTC).strftime("%Y-%m"))

    assert (nothing_yet.opening_balance, nothing_yet.closing_balance) == (0, 0)
    assert (statement.opening_balance, statement.closing_balance, list(statement.usage)) == (0, 3, [])


def test_nobody_has_no_statement(ledger: Replica) -> None:
    with pytest.raises(NotFound):
        stated(ledger, "nobody", "2025-01")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1"])
def test_no_text_is_a_formula(text: str) -> None:
    assert as_text(text) == f"'{text}"
    assert as_text(json.dumps(text)) == json.dumps(text)
