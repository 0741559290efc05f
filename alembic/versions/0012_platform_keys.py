"""Keys in a column of the platform's own: see `app.runtime.platform_keys`, which builds the index that goes with a setting.

The downgrade keeps the ledger's functions as they are: they are those of the program that runs it.
"""

from alembic import op
from sqlalchemy import text

from app.ledger import functions

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

SCHEMA = "aigcspace"
INDEXES = text(f"SELECT relname FROM pg_class WHERE relnamespace = '{SCHEMA}'::regnamespace AND relname ~ '^ix_platform_api_key_own_'")


def upgrade() -> None:
    functions.install(op.get_bind().exec_driver_sql)


def downgrade() -> None:
    for index in op.get_bind().scalars(INDEXES).all():
        op.execute(f'DROP INDEX {SCHEMA}."{index}"')
