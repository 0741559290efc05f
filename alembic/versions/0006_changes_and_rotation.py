"""Notices of changes to keys, users and the catalog, and secrets of keys that overlap.

The downgrade keeps the ledger's functions as they are: they are those of the program that runs it.
"""

import sqlalchemy as sa
from alembic import op

from app.ledger import functions

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

SCHEMA = "aigcspace"
TRIGGERS = {
    "secret_changed": (
        "AFTER UPDATE OF id, user_id, key_hash ON {schema}.platform_api_key FOR EACH ROW WHEN (OLD.key_hash IS NOT NULL AND "
        "(OLD.id, OLD.user_id, OLD.key_hash) IS DISTINCT FROM (NEW.id, NEW.user_id, NEW.key_hash))"
    ),
    "key_deleted": "AFTER DELETE ON {schema}.platform_api_key FOR EACH ROW WHEN (OLD.key_hash IS NOT NULL)",
    "keys_truncated": "AFTER TRUNCATE ON {schema}.platform_api_key FOR EACH STATEMENT",
    "policies_added": "AFTER INSERT ON {schema}.key_policy REFERENCING NEW TABLE AS changed FOR EACH STATEMENT",
    "policies_changed": "AFTER UPDATE ON {schema}.key_policy REFERENCING OLD TABLE AS changed FOR EACH STATEMENT",
    "policies_deleted": "AFTER DELETE ON {schema}.key_policy REFERENCING OLD TABLE AS changed FOR EACH STATEMENT",
    "policies_truncated": "AFTER TRUNCATE ON {schema}.key_policy FOR EACH STATEMENT",
    "limits_added": "AFTER INSERT ON {schema}.user_policy REFERENCING NEW TABLE AS changed FOR EACH STATEMENT",
    "limits_changed": "AFTER UPDATE ON {schema}.user_policy REFERENCING OLD TABLE AS changed FOR EACH STATEMENT",
    "limits_deleted": "AFTER DELETE ON {schema}.user_policy REFERENCING OLD TABLE AS changed FOR EACH STATEMENT",
    "limits_truncated": "AFTER TRUNCATE ON {schema}.user_policy FOR EACH STATEMENT",
    "groups_changed": "AFTER UPDATE OR DELETE OR TRUNCATE ON {schema}.spend_group FOR EACH STATEMENT",
    "user_disabled": (
        "AFTER UPDATE OF disabled_at ON {schema}.account FOR EACH ROW "
        "WHEN ((OLD.disabled_at IS NULL) IS DISTINCT FROM (NEW.disabled_at IS NULL))"
    ),
}
"""What makes a remembered caller out of date. Transition tables are not to be had for an UPDATE of named columns: what many
others write (`account` with every call, `platform_api_key` by the platform) has row triggers, which other columns never fire."""


def upgrade() -> None:
    op.create_table(
        "retired_secret",
        sa.Column("key_hash", sa.String(64), primary_key=True),
        sa.Column("key_id", sa.Integer(), sa.ForeignKey(f"{SCHEMA}.platform_api_key.id", ondelete="CASCADE"), nullable=False),
        sa.Column("valid_until", sa.DateTime(timezone=True), nullable=False),
        sa.Index("ix_retired_secret_key_id", "key_id"),
        schema=SCHEMA,
    )
    functions.install(_execute)
    for name, when in TRIGGERS.items():
        _execute(f"CREATE TRIGGER billing_proxy_{name} {when.format(schema=SCHEMA)} EXECUTE FUNCTION {SCHEMA}.caller_changed()")


def downgrade() -> None:
    for name, when in TRIGGERS.items():
        table = when.partition(" ON ")[2].partition(" ")[0].format(schema=SCHEMA)
        _execute(f"DROP TRIGGER billing_proxy_{name} ON {table}")
    op.drop_table("retired_secret", schema=SCHEMA)


def _execute(sql: str) -> None:
    op.get_bind().exec_driver_sql(sql)
