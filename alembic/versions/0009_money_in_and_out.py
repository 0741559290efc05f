"""Refunds that name their call."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0007"
branch_labels = None
depends_on = None

SCHEMA = "aigcspace"


def upgrade() -> None:
    _widen_entries()


def downgrade() -> None:
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
