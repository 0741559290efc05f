"""Several secrets an upstream, and the protocols that it speaks. Each of `more_secrets` is encrypted as `secret` is."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

SCHEMA = "aigcspace"


def upgrade() -> None:
    op.add_column("upstream", sa.Column("more_secrets", ARRAY(sa.LargeBinary())), schema=SCHEMA)
    op.add_column("upstream", sa.Column("more_secret_hints", ARRAY(sa.String(8))), schema=SCHEMA)
    op.add_column("upstream", sa.Column("protocols", ARRAY(sa.Text())), schema=SCHEMA)
    op.create_check_constraint("ck_upstream_protocols", "upstream", "protocols <@ ARRAY['openai', 'anthropic', 'gemini']", schema=SCHEMA)


def downgrade() -> None:
    for column in ("protocols", "more_secret_hints", "more_secrets"):
        op.drop_column("upstream", column, schema=SCHEMA)
