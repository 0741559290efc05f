"""Indexes for the filters of `/logs`, latencies in the sums by hour, and a table for sums by day and month, which settlements write
from here on. The next migration fills it.

Indexes are built while others read and write.
"""

import sqlalchemy as sa
from alembic import op

from app.ledger import functions
from app.runtime import adoption

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

SCHEMA = "aigcspace"
BY_VALUE = ("user_id", "api_key_id", "model_name", "model_id", "upstream_id", "api", "request_ip", "is_local")
BY_RARE_VALUE = {
    "end_user": "end_user IS NOT NULL",
    "end_reason": "end_reason <> 'completed'",
    "usage_source": "usage_source <> 'provider'",
}
COUNTS = ("calls", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
HISTOGRAMS = ("latencies", "first_tokens")


def upgrade() -> None:
    adoption.build_indexes("api_call_log", indexes())
    for name in HISTOGRAMS:
        for table in ("usage_hourly", "archived_usage"):
            op.add_column(table, sa.Column(name, sa.Numeric(), nullable=False, server_default="0"), schema=SCHEMA)
    op.create_table(
        "usage_period",
        sa.Column("period", sa.String(5), primary_key=True),
        sa.Column("start", sa.DateTime(timezone=True), primary_key=True),
        sa.Column("shard", sa.SmallInteger(), primary_key=True, autoincrement=False),
        sa.Column("user_id", sa.String(50), primary_key=True),
        sa.Column("api_key_id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("model_name", sa.String(255), primary_key=True),
        sa.Column("upstream_id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("api", sa.String(50), primary_key=True),
        sa.Column("status", sa.String(20), primary_key=True),
        sa.Column("is_local", sa.Boolean(), primary_key=True),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in COUNTS),
        sa.Column("charge", sa.Numeric(24, 10), nullable=False),
        sa.Column("bill", sa.Numeric(20, 4), nullable=False),
        sa.Column("write_off", sa.Numeric(24, 10), nullable=False),
        sa.Column("upstream_cost", sa.Numeric(24, 10), nullable=False),
        *(sa.Column(name, sa.Numeric(), nullable=False) for name in HISTOGRAMS),
        sa.CheckConstraint("period in ('day', 'month', 'user')", name="ck_usage_period_period"),
        schema=SCHEMA,
    )
    op.create_index("ix_usage_period_model_name", "usage_period", ["model_name"], schema=SCHEMA)
    _execute(f"ALTER TABLE {SCHEMA}.usage_period SET (fillfactor = 70)")
    functions.install(_execute)


def downgrade() -> None:
    op.drop_table("usage_period", schema=SCHEMA)
    for name in HISTOGRAMS:
        for table in ("usage_hourly", "archived_usage"):
            op.drop_column(table, name, schema=SCHEMA)
    adoption.drop_indexes("api_call_log", list(indexes()))


def indexes() -> dict[str, str]:
    named = "ix_api_call_log_{}_created_at".format
    return {
        **{named(name): f"({name}, created_at)" for name in BY_VALUE},
        **{named(name): f"({name}, created_at) WHERE {where}" for name, where in BY_RARE_VALUE.items()},
        named("failed"): "(created_at, usage_source) WHERE status = 'failed'",
        "ix_api_call_log_bill": "(bill)",
    }


def _execute(sql: str) -> None:
    op.get_bind().exec_driver_sql(sql)
