"""Leases of the processes that hold calls, and what a late truth leaves on the row that it amends.

The downgrade keeps the ledger's functions as they are: they are those of the program that runs it.
"""

import sqlalchemy as sa
from alembic import op

from app.ledger import functions
from app.runtime import adoption
from app.settings import Settings

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SCHEMA = "aigcspace"
ADDED = (sa.Column("settled_at", sa.DateTime(timezone=True)), sa.Column("amended_at", sa.DateTime(timezone=True)))
REPLACED = ("reserve", "settle")
"""Functions whose parameters or result change."""


def upgrade() -> None:
    op.create_table(
        "instance",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("process_id", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=False),
        schema=SCHEMA,
    )
    adoption.add_columns("api_call_log", ADDED)
    _execute(
        f"UPDATE {SCHEMA}.api_call_log SET settled_at = created_at AT TIME ZONE '{Settings.load().log_time_zone}' "
        "WHERE request_id IS NOT NULL"
    )
    op.add_column("upstream", sa.Column("client_gone", sa.String(10), nullable=False, server_default="cancel"), schema=SCHEMA)
    op.create_check_constraint("ck_upstream_client_gone", "upstream", "client_gone in ('cancel', 'drain')", schema=SCHEMA)
    for name in REPLACED:
        _execute(f"DROP FUNCTION IF EXISTS {SCHEMA}.{name}")
    functions.install(_execute)


def downgrade() -> None:
    op.drop_column("upstream", "client_gone", schema=SCHEMA)
    adoption.drop_columns("api_call_log", ADDED)
    op.drop_table("instance", schema=SCHEMA)


def _execute(sql: str) -> None:
    op.get_bind().exec_driver_sql(sql)
