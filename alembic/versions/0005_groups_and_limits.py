"""Groups, limits of users, and what may be spent in a day and a month.

Calls in flight are counted anew, under locks that keep others out meanwhile. The downgrade keeps the ledger's functions as
they are: they are those of the program that runs it.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from app.ledger import functions

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

SCHEMA = "aigcspace"
LIMITS = ("rpm", "tpm", "max_concurrency")
PERIODS = ("daily_limit", "monthly_limit")
REPLACED = ("reserve", "settle", "reap")
"""Functions whose parameters or result change."""
IN_PERIODS = "daily_limit between 0 and 1000000000 and monthly_limit between 0 and 1000000000"


def upgrade() -> None:
    op.create_table(
        "spend_group",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("multiplier", sa.Numeric(10, 6), nullable=False, server_default="1"),
        sa.Column("model_multipliers", JSONB()),
        sa.Column("models", ARRAY(sa.Text())),
        sa.Column("upstream_tags", ARRAY(sa.Text())),
        *_limits("spend_group"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.UniqueConstraint("name", name="uq_spend_group_name"),
        sa.CheckConstraint("multiplier between 0 and 1000", name="ck_spend_group_multiplier"),
        schema=SCHEMA,
    )
    op.create_table(
        "user_policy",
        sa.Column("user_id", sa.String(50), sa.ForeignKey(f"{SCHEMA}.users.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("group_id", sa.Integer(), sa.ForeignKey(f"{SCHEMA}.spend_group.id")),
        *_limits("user_policy"),
        schema=SCHEMA,
    )
    for period in PERIODS:
        op.add_column("key_policy", sa.Column(period, sa.Numeric(20, 10)), schema=SCHEMA)
    op.add_column("key_policy", sa.Column("group_id", sa.Integer(), sa.ForeignKey(f"{SCHEMA}.spend_group.id")), schema=SCHEMA)
    op.create_check_constraint("ck_key_policy_periods", "key_policy", IN_PERIODS, schema=SCHEMA)
    op.add_column("upstream", sa.Column("tags", ARRAY(sa.Text())), schema=SCHEMA)
    for table in ("account", "key_meter"):
        for spent in ("day_spent", "month_spent"):
            op.add_column(table, sa.Column(spent, sa.Numeric(20, 10), nullable=False, server_default="0"), schema=SCHEMA)
        op.add_column(table, sa.Column("spent_on", sa.Date()), schema=SCHEMA)
    for level in ("request_level", "token_level"):
        op.add_column("account", sa.Column(level, sa.Double(), nullable=False, server_default="0"), schema=SCHEMA)
    op.add_column(
        "account", sa.Column("drained_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()), schema=SCHEMA
    )
    op.add_column("account", sa.Column("in_flight", sa.Integer(), nullable=False, server_default="0"), schema=SCHEMA)
    _execute(f"LOCK TABLE {SCHEMA}.call_hold IN SHARE MODE")
    held = f"SELECT user_id, count(*) AS calls FROM {SCHEMA}.call_hold GROUP BY user_id"
    _execute(f"UPDATE {SCHEMA}.account SET in_flight = calls FROM ({held}) held WHERE held.user_id = account.user_id")
    op.create_check_constraint("ck_account_in_flight", "account", "in_flight >= 0", schema=SCHEMA)
    for name in REPLACED:
        _execute(f"DROP FUNCTION IF EXISTS {SCHEMA}.{name}")
    functions.install(_execute)


def downgrade() -> None:
    for column in ("in_flight", "drained_at", "token_level", "request_level"):
        op.drop_column("account", column, schema=SCHEMA)
    for table in ("account", "key_meter"):
        for column in ("spent_on", "month_spent", "day_spent"):
            op.drop_column(table, column, schema=SCHEMA)
    op.drop_column("upstream", "tags", schema=SCHEMA)
    for column in ("group_id", *PERIODS):
        op.drop_column("key_policy", column, schema=SCHEMA)
    op.drop_table("user_policy", schema=SCHEMA)
    op.drop_table("spend_group", schema=SCHEMA)


def _limits(table: str) -> list[sa.schema.SchemaItem]:
    return [
        *(sa.Column(name, sa.Integer()) for name in LIMITS),
        *(sa.Column(name, sa.Numeric(20, 10)) for name in PERIODS),
        sa.CheckConstraint("rpm > 0 and tpm > 0 and max_concurrency > 0", name=f"ck_{table}_limits"),
        sa.CheckConstraint(IN_PERIODS, name=f"ck_{table}_periods"),
    ]


def _execute(sql: str) -> None:
    op.get_bind().exec_driver_sql(sql)
