"""Who made what upstreams keep, and calls that go on there in the background.

The downgrade keeps the ledger's functions as they are: they are those of the program that runs it.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from app.ledger import functions

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

SCHEMA = "aigcspace"


def upgrade() -> None:
    op.create_table(
        "upstream_object",
        sa.Column("object_id", sa.String(255), primary_key=True),
        sa.Column("user_id", sa.String(50), sa.ForeignKey(f"{SCHEMA}.users.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("upstream_id", sa.Integer(), nullable=False),
        sa.Column("request_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
        sa.Index("ix_upstream_object_user_id", "user_id"),
        schema=SCHEMA,
    )
    op.create_table(
        "background_call",
        sa.Column("request_id", sa.Uuid(), primary_key=True),
        sa.Column("user_id", sa.String(50), sa.ForeignKey(f"{SCHEMA}.users.id", ondelete="CASCADE"), nullable=False),
        sa.Column("upstream_id", sa.Integer(), nullable=False),
        sa.Column("object_id", sa.String(255), nullable=False),
        sa.Column("entry", JSONB(), nullable=False),
        sa.Column("terms", JSONB(), nullable=False),
        sa.Column("looks", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("next_look", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
        sa.Index("ix_background_call_next_look", "next_look"),
        sa.Index("ix_background_call_user_id_object_id", "user_id", "object_id"),
        schema=SCHEMA,
    )
    functions.install(_execute)


def downgrade() -> None:
    """Holds of background calls end as orphaned: nobody asks for them any more."""
    op.drop_table("background_call", schema=SCHEMA)
    op.drop_table("upstream_object", schema=SCHEMA)


def _execute(sql: str) -> None:
    op.get_bind().exec_driver_sql(sql)
