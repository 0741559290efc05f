"""What must be true of the ledger at any moment, and what must be when nothing is in flight; asked of PostgreSQL itself."""

from collections.abc import Sequence
from decimal import Decimal

from tests.harness.postgres import Database

TOLERANCE = Decimal("0.00005")
UNIT = Decimal("0.0001")

_ACCOUNTS = """
    SELECT a.*, coalesce(l.rows, 0) AS rows, coalesce(l.bill, 0) AS bill, coalesce(l.charge, 0) AS charge,
        coalesce(l.write_off, 0) AS write_off, coalesce(h.amount, 0) AS holding
    FROM aigcspace.account a
    LEFT JOIN (
        SELECT user_id, count(*) AS rows, sum(bill) AS bill, sum(charge) AS charge, sum(write_off) AS write_off
        FROM aigcspace.api_call_log GROUP BY user_id
    ) l USING (user_id)
    LEFT JOIN (SELECT user_id, sum(amount) AS amount FROM aigcspace.call_hold GROUP BY user_id) h USING (user_id)
    WHERE a.user_id = ANY ($1)
"""
_METERS = """
    SELECT m.key_id, m.spent, m.held, m.in_flight, coalesce(l.charge, 0) AS charge,
        coalesce(h.amount, 0) AS holding, coalesce(h.calls, 0) AS calls
    FROM aigcspace.key_meter m
    JOIN aigcspace.platform_api_key k ON k.id = m.key_id
    LEFT JOIN (SELECT api_key_id, sum(charge) AS charge FROM aigcspace.api_call_log GROUP BY api_key_id) l ON l.api_key_id = m.key_id
    LEFT JOIN (
        SELECT api_key_id, sum(amount) AS amount, count(*) AS calls FROM aigcspace.call_hold GROUP BY api_key_id
    ) h ON h.api_key_id = m.key_id
    WHERE k.user_id = ANY ($1)
"""
_DIFFERING_HOURS = """
    WITH summed AS (
        SELECT date_trunc('hour', created_at) AT TIME ZONE 'UTC' AS hour, user_id, coalesce(api_key_id, 0) AS api_key_id, model_name,
            coalesce(upstream_id, 0) AS upstream_id, coalesce(api, '') AS api, status, is_local, count(*)::numeric AS calls,
            sum(input_tokens)::numeric AS input_tokens, sum(output_tokens)::numeric AS output_tokens,
            coalesce(sum(cache_read_tokens), 0)::numeric AS cache_read_tokens,
            coalesce(sum(cache_write_tokens), 0)::numeric AS cache_write_tokens,
            coalesce(sum(reasoning_tokens), 0)::numeric AS reasoning_tokens,
            sum(charge) AS charge, sum(bill) AS bill, sum(write_off) AS write_off
        FROM aigcspace.api_call_log WHERE user_id = ANY ($1) GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
    ), kept AS (
        SELECT hour, user_id, api_key_id, model_name, upstream_id, api, status, is_local, calls, input_tokens, output_tokens,
            cache_read_tokens, cache_write_tokens, reasoning_tokens, charge, bill, write_off
        FROM aigcspace.usage_hourly WHERE user_id = ANY ($1) AND calls <> 0  -- an amended orphan leaves a row of zeros
    )
    (TABLE summed EXCEPT TABLE kept) UNION ALL (TABLE kept EXCEPT TABLE summed)
"""

_KEYS = "period, start, user_id, api_key_id, model_name, upstream_id, api, status, is_local"
_SUMMED = (
    "calls, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, charge, bill, write_off, upstream_cost,"
    " latencies, first_tokens"
)
_SUMS = ", ".join(f"sum({name})" for name in _SUMMED.split(", "))
_PERIODS_ANEW = " UNION ALL ".join(
    f"""
    SELECT '{period}' AS period, date_trunc('{length}', hour, 'UTC') AS start, {told}, {_SUMS}
    FROM aigcspace.usage_hourly GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9 HAVING sum(calls) <> 0
    """
    for period, length, told in (
        ("day", "day", "'' AS user_id, 0 AS api_key_id, model_name, upstream_id, api, status, is_local"),
        ("month", "month", "user_id, api_key_id, model_name, upstream_id, api, status, is_local"),
        ("user", "month", "user_id, 0, '', 0, '', status, false"),
    )
)
_DIFFERING_PERIODS = f"""
    WITH anew AS ({_PERIODS_ANEW}), kept AS (
        SELECT {_KEYS}, {_SUMS} FROM aigcspace.usage_period GROUP BY {_KEYS} HAVING sum(calls) <> 0
    )
    (TABLE anew EXCEPT TABLE kept) UNION ALL (TABLE kept EXCEPT TABLE anew)
"""


def sum_up_periods(db: Database) -> None:
    """Periods anew, of hours that a test has planted, moved or deleted."""
    db.execute("DELETE FROM aigcspace.usage_period")
    db.execute(f"INSERT INTO aigcspace.usage_period (shard, {_KEYS}, {_SUMMED}) SELECT 0, * FROM ({_PERIODS_ANEW}) anew")


def check_periods(db: Database) -> None:
    """Periods are the sums of all hours there are."""
    assert db.fetch(_DIFFERING_PERIODS) == []


def check(db: Database, user_ids: Sequence[str]) -> None:
    """At any moment between two transactions: the books equal the rows and the holds."""
    for account in db.fetch(_ACCOUNTS, list(user_ids)):
        assert account["held"] == account["holding"], account
        assert account["billed"] == account["bill"], account
        assert account["spent"] == account["charge"], account
        assert account["written_off"] == account["write_off"], account
        assert abs(account["bill"] - account["charge"]) <= TOLERANCE, account
        assert account["credit"] + account["credit_limit"] - account["spent"] - account["held"] >= 0, account
    for meter in db.fetch(_METERS, list(user_ids)):
        assert (meter["spent"], meter["held"], meter["in_flight"]) == (meter["charge"], meter["holding"], meter["calls"]), meter
    assert db.fetch(_DIFFERING_HOURS, list(user_ids)) == []
    wrong = """
        SELECT * FROM aigcspace.api_call_log
        WHERE user_id = ANY ($1) AND NOT (bill >= 0 AND charge >= 0 AND write_off >= 0 AND abs(bill - charge) <= $2)
    """
    assert db.fetch(wrong, list(user_ids), UNIT) == []


def check_at_rest(db: Database, user_ids: Sequence[str]) -> None:
    """When nothing is in flight any longer: the same, and nothing is held."""
    check(db, user_ids)
    assert db.value("SELECT count(*) FROM aigcspace.call_hold WHERE user_id = ANY ($1)", list(user_ids)) == 0
    assert db.value("SELECT coalesce(sum(held), 0) FROM aigcspace.account WHERE user_id = ANY ($1)", list(user_ids)) == 0
