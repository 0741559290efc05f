"""Upstreams that must begin their answer within a time of their own, and changes that aren't notified.

The downgrade keeps the ledger's functions as they are: they are those of the program that runs it.
"""

import sqlalchemy as sa
from alembic import op

from app.ledger import functions

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

SCHEMA = "aigcspace"


def upgrade() -> None:
    op.add_column("upstream", sa.Column("first_byte_within", sa.Double()), schema=SCHEMA)
    bounds = "first_byte_within > 0 AND first_byte_within <= 3600"
    op.create_check_constraint("ck_upstream_first_byte_within", "upstream", bounds, schema=SCHEMA)
    functions.install(op.get_bind().exec_driver_sql)


def downgrade() -> None:
    op.drop_column("upstream", "first_byte_within", schema=SCHEMA)
