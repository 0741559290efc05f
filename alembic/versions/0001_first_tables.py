"""The first tables.

`users`, `platform_api_key` and `api_call_log` may be there already, made by the platform: see `app.runtime.adoption`.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from app.ledger import functions
from app.runtime import adoption

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SCHEMA = "aigcspace"
OWN = (
    "account", "credit_entry", "call_hold", "key_policy", "key_meter",
    "upstream", "model", "model_route", "model_price", "catalog_version", "usage_hourly",
)  # fmt: skip
"""In the order of their foreign keys."""
VERSIONED = ("upstream", "model", "model_route", "model_price")
"""Tables of which every change raises the version of the catalog."""

shared = sa.MetaData(schema=SCHEMA)

users = sa.Table(
    "users",
    shared,
    sa.Column("id", sa.String(50), primary_key=True),
    sa.Column("name", sa.String(255)),
)

platform_api_key = sa.Table(
    "platform_api_key",
    shared,
    sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
    sa.Column("user_id", sa.String(50), sa.ForeignKey("aigcspace.users.id", ondelete="CASCADE"), index=True),
    sa.Column("name", sa.String(255)),
    sa.Column("key_hash", sa.String(64)),
    sa.Column("key_prefix", sa.String(16)),
    sa.UniqueConstraint("key_hash", name="uq_platform_api_key_key_hash"),
)

api_call_log = sa.Table(
    "api_call_log",
    shared,
    sa.Column("id", sa.BigInteger(), primary_key=True, autoincrement=True, comment="主键ID"),
    sa.Column("user_id", sa.String(50), sa.ForeignKey("aigcspace.users.id", ondelete="CASCADE"), nullable=False, comment="用户ID"),
    sa.Column("api_key_id", sa.Integer(), sa.ForeignKey("aigcspace.platform_api_key.id", ondelete="SET NULL"), comment="API Key ID"),
    sa.Column("model_id", sa.Integer(), comment="模型ID"),
    sa.Column("model_name", sa.String(255), nullable=False, comment="模型名称"),
    sa.Column("is_local", sa.Boolean(), nullable=False, comment="是否为本地模型"),
    sa.Column("input_tokens", sa.Integer(), nullable=False, comment="输入Token数量"),
    sa.Column("output_tokens", sa.Integer(), nullable=False, comment="输出Token数量"),
    sa.Column("bill", sa.Numeric(12, 4), nullable=False, comment="费用金额"),
    sa.Column("status", sa.String(20), nullable=False, comment="调用状态:success/failed"),
    sa.Column("error_message", sa.Text(), comment="错误信息"),
    sa.Column("request_ip", sa.String(50), comment="请求IP地址"),
    sa.Column("created_at", sa.DateTime(), nullable=False, server_default=sa.func.now(), comment="创建时间"),
    sa.Column("request_id", sa.Uuid()),
    sa.Column("charge", sa.Numeric(20, 10)),
    sa.Column("write_off", sa.Numeric(20, 10)),
    sa.Column("cache_read_tokens", sa.Integer()),
    sa.Column("cache_write_tokens", sa.Integer()),
    sa.Column("reasoning_tokens", sa.Integer()),
    sa.Column("usage_source", sa.String(20)),
    sa.Column("api", sa.String(50)),
    sa.Column("is_stream", sa.Boolean()),
    sa.Column("upstream_id", sa.Integer()),
    sa.Column("upstream_model", sa.String(255)),
    sa.Column("http_status", sa.Integer()),
    sa.Column("latency_ms", sa.Integer()),
    sa.Column("first_token_ms", sa.Integer()),
    sa.Column("end_reason", sa.String(30)),
    sa.Column("end_user", sa.String(255)),
    sa.Column("max_tokens_applied", sa.Integer()),
    sa.Column("flags", ARRAY(sa.Text())),
    sa.Column("tags", JSONB()),
    sa.Column("price", JSONB()),
    sa.Column("line_items", JSONB()),
    sa.Column("attempts", JSONB()),
    sa.UniqueConstraint("request_id", name="uq_api_call_log_request_id"),
    sa.Index("idx_api_call_log_user_id", "user_id"),
    sa.Index("idx_api_call_log_api_key_id", "api_key_id"),
    sa.Index("idx_api_call_log_model_id", "model_id"),
    sa.Index("idx_api_call_log_created_at", "created_at"),
    sa.Index("idx_api_call_log_is_local", "is_local"),
    comment="API调用日志表",
)

SHARED = (users, platform_api_key, api_call_log)


def upgrade() -> None:
    adoption.plan(SHARED, written=api_call_log, own=OWN)
    adoption.build(SHARED)
    adoption.finish()
    _make_accounts()
    _make_keys()
    _make_catalog()
    _make_usage()
    functions.install(_execute)
    for table in VERSIONED:
        _execute(
            f"CREATE TRIGGER catalog_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {SCHEMA}.{table} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION {SCHEMA}.catalog_changed()"
        )


def downgrade() -> None:
    for table in reversed(OWN):
        op.drop_table(table, schema=SCHEMA)
    functions.remove(_execute)
    adoption.undo(SHARED)


def _make_accounts() -> None:
    op.create_table(
        "account",
        sa.Column("user_id", sa.String(50), sa.ForeignKey("aigcspace.users.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("credit", sa.Numeric(16, 4), nullable=False, server_default="0"),
        sa.Column("credit_limit", sa.Numeric(16, 4), nullable=False, server_default="0"),
        sa.Column("held", sa.Numeric(20, 10), nullable=False, server_default="0"),
        sa.Column("spent", sa.Numeric(20, 10), nullable=False, server_default="0"),
        sa.Column("billed", sa.Numeric(16, 4), nullable=False, server_default="0"),
        sa.Column("written_off", sa.Numeric(20, 10), nullable=False, server_default="0"),
        sa.Column("disabled_at", sa.DateTime(timezone=True)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.CheckConstraint("credit + credit_limit - spent - held between 0 and 10000000000", name="ck_account_available"),
        sa.CheckConstraint("credit between -1000000000 and 1000000000", name="ck_account_credit"),
        sa.CheckConstraint("credit_limit between 0 and 1000000000", name="ck_account_credit_limit"),
        sa.CheckConstraint("held between 0 and 2000000000 and spent between 0 and 2000000000", name="ck_account_use"),
        sa.CheckConstraint("billed - spent between -0.00005 and 0.00005", name="ck_account_billed"),
        schema=SCHEMA,
    )
    # Updated at every call: with room in the page, no index needs to know.
    _execute(f"ALTER TABLE {SCHEMA}.account SET (fillfactor = 50)")
    op.create_table(
        "credit_entry",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), primary_key=True),
        sa.Column("user_id", sa.String(50), nullable=False),
        sa.Column("amount", sa.Numeric(16, 4), nullable=False),
        sa.Column("note", sa.Text()),
        sa.Column("idempotency_key", sa.String(255)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.CheckConstraint("amount between -1000000000 and 1000000000", name="ck_credit_entry_amount"),
        sa.UniqueConstraint("user_id", "idempotency_key", name="uq_credit_entry_idempotency_key"),
        schema=SCHEMA,
    )
    op.create_index("ix_credit_entry_user_id_id", "credit_entry", ["user_id", "id"], schema=SCHEMA)
    op.create_table(
        "call_hold",
        sa.Column("request_id", sa.Uuid(), primary_key=True),
        sa.Column("user_id", sa.String(50), sa.ForeignKey("aigcspace.users.id", ondelete="CASCADE"), nullable=False),
        sa.Column("api_key_id", sa.Integer(), nullable=False),
        sa.Column("instance_id", sa.Uuid(), nullable=False),
        sa.Column("amount", sa.Numeric(20, 10), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("open_ended", sa.Boolean(), nullable=False),
        sa.Column("entry", JSONB(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.CheckConstraint("amount between 0 and 100000000", name="ck_call_hold_amount"),
        schema=SCHEMA,
    )
    op.create_index("ix_call_hold_user_id", "call_hold", ["user_id"], schema=SCHEMA)
    op.create_index("ix_call_hold_instance_id", "call_hold", ["instance_id"], schema=SCHEMA)


def _make_keys() -> None:
    key_id = sa.ForeignKey("aigcspace.platform_api_key.id", ondelete="CASCADE")
    op.create_table(
        "key_policy",
        sa.Column("key_id", sa.Integer(), key_id, primary_key=True, autoincrement=False),
        sa.Column("scope", sa.String(10), nullable=False, server_default="key"),
        sa.Column("models", ARRAY(sa.Text())),
        sa.Column("allowed_ips", ARRAY(sa.Text())),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.Column("spend_limit", sa.Numeric(20, 10)),
        sa.Column("rpm", sa.Integer()),
        sa.Column("tpm", sa.Integer()),
        sa.Column("max_concurrency", sa.Integer()),
        sa.Column("disabled_at", sa.DateTime(timezone=True)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.CheckConstraint("scope in ('key', 'account')", name="ck_key_policy_scope"),
        sa.CheckConstraint("spend_limit between 0 and 1000000000", name="ck_key_policy_spend_limit"),
        sa.CheckConstraint("rpm > 0 and tpm > 0 and max_concurrency > 0", name="ck_key_policy_limits"),
        schema=SCHEMA,
    )
    key_id = sa.ForeignKey("aigcspace.platform_api_key.id", ondelete="CASCADE")
    op.create_table(
        "key_meter",
        sa.Column("key_id", sa.Integer(), key_id, primary_key=True, autoincrement=False),
        sa.Column("spent", sa.Numeric(20, 10), nullable=False, server_default="0"),
        sa.Column("held", sa.Numeric(20, 10), nullable=False, server_default="0"),
        sa.Column("in_flight", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("request_level", sa.Double(), nullable=False, server_default="0"),
        sa.Column("token_level", sa.Double(), nullable=False, server_default="0"),
        sa.Column("drained_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.CheckConstraint("held >= 0 and spent >= 0 and in_flight >= 0", name="ck_key_meter_signs"),
        schema=SCHEMA,
    )
    _execute(f"ALTER TABLE {SCHEMA}.key_meter SET (fillfactor = 50)")


def _make_catalog() -> None:
    op.create_table(
        "upstream",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("base_url", sa.Text(), nullable=False),
        sa.Column("secret", sa.LargeBinary()),
        sa.Column("secret_hint", sa.String(8)),
        sa.Column("auth", sa.String(20), nullable=False, server_default="auto"),
        sa.Column("is_local", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("stream_usage", sa.String(10), nullable=False, server_default="inject"),
        sa.Column("disabled_at", sa.DateTime(timezone=True)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.UniqueConstraint("name", name="uq_upstream_name"),
        sa.CheckConstraint("stream_usage in ('inject', 'native', 'off')", name="ck_upstream_stream_usage"),
        sa.CheckConstraint("auth in ('auto', 'bearer', 'x-api-key', 'api-key', 'none')", name="ck_upstream_auth"),
        schema=SCHEMA,
    )
    op.create_table(
        "model",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("context_tokens", sa.Integer()),
        sa.Column("max_output_tokens", sa.Integer()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.UniqueConstraint("name", name="uq_model_name"),
        sa.CheckConstraint("context_tokens > 0 and max_output_tokens > 0", name="ck_model_limits"),
        schema=SCHEMA,
    )
    op.create_table(
        "model_route",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("upstream_id", sa.Integer(), sa.ForeignKey("aigcspace.upstream.id", ondelete="CASCADE"), nullable=False),
        sa.Column("model_id", sa.Integer(), sa.ForeignKey("aigcspace.model.id", ondelete="CASCADE")),
        sa.Column("pattern", sa.String(255), nullable=False),
        sa.Column("upstream_model", sa.String(255)),
        sa.Column("priority", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("weight", sa.Integer(), nullable=False, server_default="1"),
        sa.UniqueConstraint("upstream_id", "pattern", name="uq_model_route_upstream_pattern"),
        sa.CheckConstraint("weight > 0", name="ck_model_route_weight"),
        schema=SCHEMA,
    )
    op.create_index("ix_model_route_model_id", "model_route", ["model_id"], schema=SCHEMA)
    op.create_table(
        "model_price",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("model_name", sa.String(255), nullable=False),
        sa.Column("rates", JSONB(), nullable=False),
        sa.Column("tiers", JSONB()),
        sa.Column("source", sa.String(50), nullable=False, server_default="operator"),
        sa.Column("effective_from", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.UniqueConstraint("model_name", "effective_from", name="uq_model_price_model_name_effective_from"),
        schema=SCHEMA,
    )
    op.create_table(
        "catalog_version",
        sa.Column("only", sa.Boolean(), primary_key=True, server_default=sa.true()),
        sa.Column("version", sa.BigInteger(), nullable=False, server_default="1"),
        sa.CheckConstraint('"only"', name="ck_catalog_version_only"),
        schema=SCHEMA,
    )
    _execute(f"INSERT INTO {SCHEMA}.catalog_version DEFAULT VALUES")


def _make_usage() -> None:
    op.create_table(
        "usage_hourly",
        sa.Column("hour", sa.DateTime(timezone=True), primary_key=True),
        sa.Column("user_id", sa.String(50), primary_key=True),
        sa.Column("api_key_id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("model_name", sa.String(255), primary_key=True),
        sa.Column("upstream_id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("api", sa.String(50), primary_key=True),
        sa.Column("status", sa.String(20), primary_key=True),
        sa.Column("is_local", sa.Boolean(), primary_key=True),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cache_read_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cache_write_tokens", sa.BigInteger(), nullable=False),
        sa.Column("reasoning_tokens", sa.BigInteger(), nullable=False),
        sa.Column("charge", sa.Numeric(24, 10), nullable=False),
        sa.Column("bill", sa.Numeric(20, 4), nullable=False),
        sa.Column("write_off", sa.Numeric(24, 10), nullable=False),
        schema=SCHEMA,
    )


def _execute(sql: str) -> None:
    op.get_bind().exec_driver_sql(sql)
