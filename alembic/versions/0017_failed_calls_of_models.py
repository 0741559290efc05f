"""An index for a model's failed calls, and the ledger's functions: a batch reads the account of each of its calls once.

The index is built while others read and write. The downgrade keeps the functions as they are: they are those of the program that
runs it.
"""

from alembic import op

from app.ledger import functions
from app.runtime import adoption

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

INDEXES = {"ix_api_call_log_failed_model_name_created_at": "(model_name, created_at) WHERE status = 'failed'"}


def upgrade() -> None:
    adoption.build_indexes("api_call_log", INDEXES)
    functions.install(op.get_bind().exec_driver_sql)


def downgrade() -> None:
    adoption.drop_indexes("api_call_log", list(INDEXES))
