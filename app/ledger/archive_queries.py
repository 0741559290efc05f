"""What the archive asks of the database, and its one statement that deletes rows."""

from sqlalchemy import ARRAY, BigInteger, bindparam, text

from app.database import SCHEMA

_MAY_GO = f"""
    l.request_id IS NOT NULL AND l.charge IS NOT NULL AND l.write_off IS NOT NULL AND l.settled_at < now() - interval '30 days'
    AND (l.end_reason IS DISTINCT FROM 'orphaned' OR l.amended_at IS NOT NULL OR l.settled_at < now() - interval '90 days')
    AND NOT EXISTS (SELECT FROM {SCHEMA}.call_hold h WHERE h.request_id = l.request_id)
    AND NOT EXISTS (SELECT FROM {SCHEMA}.background_call b WHERE b.request_id = l.request_id)
"""
LATEST = text("SELECT now()::timestamp - interval '30 days' + interval '14 hours'")
"""The latest date that may be asked for: in some zone it is that already."""
COUNT = text(f"SELECT count(*) FROM {SCHEMA}.api_call_log l WHERE l.created_at < :before AND {_MAY_GO}")
OLDEST = text(f"""
    SELECT date_trunc('month', l.created_at) FROM {SCHEMA}.api_call_log l
    WHERE l.created_at < :before AND {_MAY_GO} ORDER BY l.created_at LIMIT 1
""")
NEXT_ROWS = text(f"""
    SELECT l.id, l.bill, l.charge, l.write_off,
        (to_jsonb(l) || jsonb_build_object('bill', l.bill::text, 'charge', l.charge::text, 'write_off', l.write_off::text,
            'upstream_cost', l.upstream_cost::text))::text AS line
    FROM {SCHEMA}.api_call_log l
    WHERE l.created_at >= :start AND l.created_at < :end AND {_MAY_GO}
    ORDER BY l.created_at, l.id LIMIT :most
""")
NEXT_NUMBER = text(f"SELECT coalesce(max(id), 0) + 1 FROM {SCHEMA}.archive_file")
UNFINISHED = text(f"SELECT id, name FROM {SCHEMA}.archive_file WHERE finished_at IS NULL ORDER BY id")
_GROUP = "bucket, user_id, api_key_id, model_name, upstream_id, api, status, is_local"
_SUMS = (
    "calls", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens",
    "charge", "bill", "write_off", "refunded", "upstream_cost",
    "latencies", "first_tokens",
)  # fmt: skip
_IS_NEAR_MONTH = (
    "date_trunc('month', settled_at - interval '15 hours', 'UTC') <> date_trunc('month', settled_at + interval '15 hours', 'UTC')"
)
"""Where a month begins in some time zone. All of them are off by quarters of an hour."""
DELETE = text(f"""
    WITH gone AS (
        DELETE FROM {SCHEMA}.api_call_log WHERE id = ANY (:ids) RETURNING *
    ), given_back AS (
        SELECT entry.request_id, sum(entry.amount) AS refunded
        FROM {SCHEMA}.credit_entry entry JOIN gone ON gone.request_id = entry.request_id AND gone.user_id = entry.user_id
        GROUP BY entry.request_id
    ), counted AS (
        SELECT
            CASE WHEN {_IS_NEAR_MONTH} THEN date_bin('15 minutes', settled_at, '2000-01-01Z')
                ELSE date_trunc('hour', settled_at, 'UTC') END AS bucket,
            user_id, coalesce(api_key_id, 0) AS api_key_id, model_name, coalesce(upstream_id, 0) AS upstream_id, coalesce(api, '') AS api,
            status, is_local, 1 AS calls, input_tokens, output_tokens, coalesce(cache_read_tokens, 0) AS cache_read_tokens,
            coalesce(cache_write_tokens, 0) AS cache_write_tokens, coalesce(reasoning_tokens, 0) AS reasoning_tokens,
            charge, bill, write_off, coalesce(refunded, 0) AS refunded, coalesce(upstream_cost, 0) AS upstream_cost,
            {SCHEMA}.latency_bucket(latency_ms) AS latencies, {SCHEMA}.latency_bucket(first_token_ms) AS first_tokens
        FROM gone LEFT JOIN given_back USING (request_id)
    ), kept AS (
        INSERT INTO {SCHEMA}.archived_usage AS known ({_GROUP}, {", ".join(_SUMS)})
        SELECT {_GROUP}, {", ".join(f"sum({name})" for name in _SUMS)} FROM counted GROUP BY {_GROUP}
        ON CONFLICT ({_GROUP}) DO UPDATE SET {", ".join(f"{name} = known.{name} + excluded.{name}" for name in _SUMS)}
    )
    SELECT count(*) AS rows, sum(bill) AS bill, sum(charge) AS charge, sum(write_off) AS write_off FROM gone
""").bindparams(bindparam("ids", type_=ARRAY(BigInteger())))
