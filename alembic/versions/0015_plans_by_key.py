"""The ledger's statements read rows by their keys alone, however small the tables were when they were planned.

The downgrade keeps the ledger's functions as they are: they are those of the program that runs it.
"""

from alembic import op

from app.ledger import functions

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    functions.install(op.get_bind().exec_driver_sql)


def downgrade() -> None:
    """Nothing to take back."""
