"""Who changed what, and the named tokens by which operators are told apart."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from app.ledger import functions

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

SCHEMA = "aigcspace"


def upgrade() -> None:
    op.create_table(
        "audit_entry",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), primary_key=True),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.func.clock_timestamp(), nullable=False),
        sa.Column("actor", sa.String(150), nullable=False),
        sa.Column("action", sa.String(50), nullable=False),
        sa.Column("object_kind", sa.String(20), nullable=False),
        sa.Column("object_id", sa.String(255), nullable=False),
        sa.Column("before", JSONB()),
        sa.Column("after", JSONB()),
        sa.Index("ix_audit_entry_object", "object_kind", "object_id", "id"),
        sa.Index("ix_audit_entry_actor", "actor", "id"),
        sa.Index("ix_audit_entry_action", "action", "id"),
        sa.Index("ix_audit_entry_at", "at"),
        schema=SCHEMA,
    )
    functions.install(_execute)
    _execute(
        f"CREATE TRIGGER billing_proxy_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {SCHEMA}.audit_entry "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {SCHEMA}.append_only()"
    )
    op.create_table(
        "admin_token",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("role", sa.String(10), nullable=False),
        sa.Column("token_hash", sa.String(64), nullable=False),
        sa.Column("token_prefix", sa.String(16), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.Column("disabled_at", sa.DateTime(timezone=True)),
        sa.Column("last_used_at", sa.DateTime(timezone=True)),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.UniqueConstraint("name", name="uq_admin_token_name"),
        sa.UniqueConstraint("token_hash", name="uq_admin_token_token_hash"),
        sa.CheckConstraint("role in ('admin', 'viewer')", name="ck_admin_token_role"),
        schema=SCHEMA,
    )


def downgrade() -> None:
    op.drop_table("admin_token", schema=SCHEMA)
    op.drop_table("audit_entry", schema=SCHEMA)


def _execute(sql: str) -> None:
    op.get_bind().exec_driver_sql(sql)
