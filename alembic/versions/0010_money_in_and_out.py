"""Refunds that name their call, redemption codes, what was archived, what upstreams charge, and the index that statements of one user need.

The downgrade is for a ledger of which nothing was archived: what is in files, it can't bring back.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from app.ledger import functions
from app.runtime import adoption

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

SCHEMA = "aigcspace"
ADDED = (sa.Column("upstream_cost", sa.Numeric(20, 10)),)


def upgrade() -> None:
    _widen_entries()
    _make_codes()
    _make_archive()
    _make_upstream_prices()
    adoption.add_columns("api_call_log", ADDED)
    op.add_column("usage_hourly", sa.Column("upstream_cost", sa.Numeric(24, 10), nullable=False, server_default="0"), schema=SCHEMA)
    op.create_index("ix_usage_hourly_user_id_hour", "usage_hourly", ["user_id", "hour"], schema=SCHEMA)
    functions.install(_execute)


def downgrade() -> None:
    op.drop_index("ix_usage_hourly_user_id_hour", "usage_hourly", schema=SCHEMA)
    op.drop_column("usage_hourly", "upstream_cost", schema=SCHEMA)
    adoption.drop_columns("api_call_log", ADDED)
    for table in ("upstream_price", "archived_usage", "archive_file", "code_guesses", "redemption_code", "code_batch"):
        op.drop_table(table, schema=SCHEMA)
    op.drop_column("credit_entry", "code_id", schema=SCHEMA)
    op.drop_column("credit_entry", "request_id", schema=SCHEMA)


def _widen_entries() -> None:
    op.add_column("credit_entry", sa.Column("request_id", sa.Uuid()), schema=SCHEMA)
    op.add_column("credit_entry", sa.Column("code_id", sa.BigInteger()), schema=SCHEMA)
    given = "amount > 0 or (request_id is null and code_id is null)"
    op.create_check_constraint("ck_credit_entry_given", "credit_entry", given, schema=SCHEMA)
    op.create_unique_constraint("uq_credit_entry_code_id", "credit_entry", ["code_id"], schema=SCHEMA)
    of_calls = sa.text("request_id IS NOT NULL")
    op.create_index("ix_credit_entry_request_id", "credit_entry", ["request_id"], schema=SCHEMA, postgresql_where=of_calls)


def _make_codes() -> None:
    op.create_table(
        "code_batch",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("amount", sa.Numeric(16, 4), nullable=False),
        sa.Column("note", sa.Text()),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.Column("voided_at", sa.DateTime(timezone=True)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.CheckConstraint("amount > 0 and amount <= 1000000000", name="ck_code_batch_amount"),
        schema=SCHEMA,
    )
    op.create_table(
        "redemption_code",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), primary_key=True),
        sa.Column("batch_id", sa.Integer(), sa.ForeignKey(f"{SCHEMA}.code_batch.id"), nullable=False),
        sa.Column("code_hash", sa.String(64), nullable=False),
        sa.Column("ending", sa.String(4), nullable=False),
        sa.Column("redeemed_at", sa.DateTime(timezone=True)),
        sa.Column("redeemed_by", sa.String(50)),
        sa.UniqueConstraint("code_hash", name="uq_redemption_code_code_hash"),
        sa.CheckConstraint("(redeemed_at is null) = (redeemed_by is null)", name="ck_redemption_code_redeemed"),
        sa.Index("ix_redemption_code_batch_id", "batch_id", "id"),
        sa.Index("ix_redemption_code_ending", "ending", "id"),
        schema=SCHEMA,
    )
    key_id = sa.ForeignKey(f"{SCHEMA}.platform_api_key.id", ondelete="CASCADE")
    op.create_table(
        "code_guesses",
        sa.Column("key_id", sa.Integer(), key_id, primary_key=True, autoincrement=False),
        sa.Column("level", sa.Double(), nullable=False, server_default="0"),
        sa.Column("drained_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        schema=SCHEMA,
    )


def _make_archive() -> None:
    counts = ("calls", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
    op.create_table(
        "archived_usage",
        sa.Column("bucket", sa.DateTime(timezone=True), primary_key=True),
        sa.Column("user_id", sa.String(50), primary_key=True),
        sa.Column("api_key_id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("model_name", sa.String(255), primary_key=True),
        sa.Column("upstream_id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("api", sa.String(50), primary_key=True),
        sa.Column("status", sa.String(20), primary_key=True),
        sa.Column("is_local", sa.Boolean(), primary_key=True),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in counts),
        sa.Column("charge", sa.Numeric(24, 10), nullable=False),
        sa.Column("bill", sa.Numeric(20, 4), nullable=False),
        sa.Column("write_off", sa.Numeric(24, 10), nullable=False),
        sa.Column("refunded", sa.Numeric(20, 4), nullable=False),
        sa.Column("upstream_cost", sa.Numeric(24, 10), nullable=False),
        sa.Index("ix_archived_usage_user_id_bucket", "user_id", "bucket"),
        schema=SCHEMA,
    )
    op.create_table(
        "archive_file",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("bill", sa.Numeric(20, 4), nullable=False),
        sa.Column("charge", sa.Numeric(24, 10), nullable=False),
        sa.Column("write_off", sa.Numeric(24, 10), nullable=False),
        sa.Column("deleted", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.UniqueConstraint("name", name="uq_archive_file_name"),
        schema=SCHEMA,
    )


def _make_upstream_prices() -> None:
    op.create_table(
        "upstream_price",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("upstream_id", sa.Integer(), sa.ForeignKey(f"{SCHEMA}.upstream.id", ondelete="CASCADE"), nullable=False),
        sa.Column("model_name", sa.String(255), nullable=False),
        sa.Column("rates", JSONB(), nullable=False),
        sa.Column("tiers", JSONB()),
        sa.Column("service_tiers", JSONB()),
        sa.Column("effective_from", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.UniqueConstraint("upstream_id", "model_name", "effective_from", name="uq_upstream_price_effective_from"),
        schema=SCHEMA,
    )
    _execute(
        f"CREATE TRIGGER catalog_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {SCHEMA}.upstream_price "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {SCHEMA}.catalog_changed()"
    )


def _execute(sql: str) -> None:
    op.get_bind().exec_driver_sql(sql)
