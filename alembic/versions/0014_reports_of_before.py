"""Fills the sums by day, month and user, and the latencies by hour, of what was settled before.

By now every settlement that begins writes them, and those that began before have ended when the lock is had. Until it is over
settlements wait: their calls go to the spool where it takes longer than `SETTLE_WAIT`.
"""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

SCHEMA = "aigcspace"
MEASURES = (
    "calls", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens",
    "charge", "bill", "write_off", "upstream_cost", "latencies", "first_tokens",
)  # fmt: skip
REST = "model_name, upstream_id, api, status, is_local"


def upgrade() -> None:
    _execute("SET LOCAL statement_timeout = 0")
    _execute(f"LOCK TABLE {SCHEMA}.usage_hourly IN SHARE ROW EXCLUSIVE MODE")
    _execute(f"DELETE FROM {SCHEMA}.usage_period")
    _fill()


def downgrade() -> None:
    """They stay filled."""


def _fill() -> None:
    """Rows of a key that was deleted since name none: their latencies go to any key of their group that had calls."""
    _execute(f"""
        WITH measured AS (
            SELECT date_trunc('hour', settled_at, 'UTC') AS hour, user_id, api_key_id, model_name, coalesce(upstream_id, 0) AS upstream_id,
                coalesce(api, '') AS api, status, is_local, sum({SCHEMA}.latency_bucket(latency_ms)) AS latencies,
                sum({SCHEMA}.latency_bucket(first_token_ms)) AS first_tokens
            FROM {SCHEMA}.api_call_log WHERE request_id IS NOT NULL GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
        ), named AS (
            SELECT hour, user_id, coalesce(api_key_id, (
                SELECT max(hourly.api_key_id) FROM {SCHEMA}.usage_hourly hourly
                WHERE (hourly.hour, hourly.user_id, hourly.model_name, hourly.upstream_id, hourly.api, hourly.status, hourly.is_local)
                    = (measured.hour, measured.user_id, measured.model_name, measured.upstream_id, measured.api, measured.status,
                        measured.is_local)
            )) AS api_key_id, {REST}, sum(latencies) AS latencies, sum(first_tokens) AS first_tokens
            FROM measured GROUP BY 1, 2, 3, {REST}
        )
        UPDATE {SCHEMA}.usage_hourly hourly SET latencies = named.latencies, first_tokens = named.first_tokens FROM named
        WHERE (hourly.hour, hourly.user_id, hourly.api_key_id, hourly.model_name, hourly.upstream_id, hourly.api, hourly.status,
                hourly.is_local)
            = (named.hour, named.user_id, named.api_key_id, named.model_name, named.upstream_id, named.api, named.status, named.is_local)
    """)
    names, sums = ", ".join(MEASURES), ", ".join(f"sum({name})" for name in MEASURES)
    of_what = (
        ("day", "day", f"'', 0, {REST}"),
        ("month", "month", f"user_id, api_key_id, {REST}"),
        ("user", "month", "user_id, 0, '', 0, '', status, false"),
    )
    for period, length, told in of_what:
        _execute(f"""
            INSERT INTO {SCHEMA}.usage_period (period, start, shard, user_id, api_key_id, {REST}, {names})
            SELECT '{period}', date_trunc('{length}', hour, 'UTC'), 0, {told}, {sums} FROM {SCHEMA}.usage_hourly
            GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
        """)


def _execute(sql: str) -> None:
    op.get_bind().exec_driver_sql(sql)
