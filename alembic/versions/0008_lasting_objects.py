"""What lies in conversations is kept for as long as these; who made anything else is forgotten with time.

What users of conversations have there already stays, as it isn't told from what lies in one. The downgrade keeps the ledger's
functions as they are: they are those of the program that runs it.
"""

import sqlalchemy as sa
from alembic import op

from app.ledger import functions

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

SCHEMA = "aigcspace"


def upgrade() -> None:
    op.add_column("upstream_object", sa.Column("is_lasting", sa.Boolean(), nullable=False, server_default=sa.false()), schema=SCHEMA)
    conversations = f"SELECT FROM {SCHEMA}.upstream_object own WHERE own.user_id = known.user_id AND own.upstream_id = known.upstream_id"
    _execute(f"UPDATE {SCHEMA}.upstream_object known SET is_lasting = true WHERE EXISTS ({conversations} AND own.object_id LIKE 'conv%')")
    op.create_index(
        "ix_upstream_object_created_at", "upstream_object", ["created_at"], schema=SCHEMA, postgresql_where=sa.text("NOT is_lasting")
    )
    functions.install(_execute)


def downgrade() -> None:
    op.drop_index("ix_upstream_object_created_at", "upstream_object", schema=SCHEMA)
    op.drop_column("upstream_object", "is_lasting", schema=SCHEMA)


def _execute(sql: str) -> None:
    op.get_bind().exec_driver_sql(sql)
