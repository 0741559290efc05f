"""Rates of service tiers, such as flex and priority, beside the base rates of a price."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

SCHEMA = "aigcspace"


def upgrade() -> None:
    op.add_column("model_price", sa.Column("service_tiers", JSONB()), schema=SCHEMA)


def downgrade() -> None:
    op.drop_column("model_price", "service_tiers", schema=SCHEMA)
