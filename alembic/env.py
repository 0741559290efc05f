"""Runs migrations on one connection, one process at a time.

The database is `config.attributes["url"]`, or that of DATABASE_URL. Statements give up on a lock after `LOCK_TIMEOUT`, so
that a migration that waits for a busy table doesn't make every call wait behind it. Fails with `StartupError` where the
server can't be migrated at all.
"""

import asyncio
import logging
import os
import time
from typing import Any

from alembic import context
from alembic.operations.ops import CreateTableCommentOp, DropTableCommentOp, MigrationScript, ModifyTableOps
from alembic.util import CommandError
from sqlalchemy import Connection, NullPool, text
from sqlalchemy.ext.asyncio import create_async_engine

import app.models  # noqa: F401  registers the tables
from app.database import CONNECT_TIMEOUT, SCHEMA, Base
from app.errors import StartupError
from app.runtime import platform_keys
from app.runtime.adoption import Adopted
from app.runtime.migrations import VERSION_TABLE

LOCK_TIMEOUT = "5s"
STATEMENT_TIMEOUT = "60s"
"""Building an index on a table of the platform's has no limit: see `app.runtime.adoption`."""
TURN = 0x61696763
"""The advisory lock that a migrating process holds."""
TURN_PAUSE = 0.2
"""Seconds."""
MADE_HERE = "Made by aigcspace-billing-proxy"
"""The comment of a schema that was made here, and so may be dropped here."""

config = context.config
log = logging.getLogger("alembic.env")


async def connect_and_run(url: str) -> None:
    settings = {
        "application_name": "billing-proxy migrate",
        "lock_timeout": LOCK_TIMEOUT,
        "statement_timeout": STATEMENT_TIMEOUT,
        # With the tables' schema on its path, PostgreSQL shows their names without it, and all would seem to differ.
        "search_path": "public",
        "timezone": "UTC",
    }
    engine = create_async_engine(url, poolclass=NullPool, connect_args={"timeout": CONNECT_TIMEOUT, "server_settings": settings})
    async with engine.connect() as connection:
        await connection.run_sync(run)


def run(connection: Connection) -> None:
    require_usable(connection)
    take_turn(connection)
    make_schema(connection)
    adopted = Adopted.read(connection)
    connection.commit()
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        version_table=VERSION_TABLE,
        version_table_schema=SCHEMA,
        transaction_per_migration=True,
        compare_type=True,
        compare_server_default=True,
        include_schemas=True,
        include_name=is_known,
        include_object=adopted.leaves_to_us,
        process_revision_directives=without_comments_on(adopted),
    )
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()
    leave_nothing_behind(connection)
    connection.commit()
    if (keys := config.attributes.get("platform_keys")) is not None:
        platform_keys.prepare(connection.execution_options(isolation_level="AUTOCOMMIT"), keys)


def require_usable(connection: Connection) -> None:
    version, read_only = connection.execute(
        text("SELECT current_setting('server_version_num')::int, current_setting('transaction_read_only') = 'on' OR pg_is_in_recovery()")
    ).one()
    connection.rollback()
    if version < 150000 or 180000 <= version < 180002:
        found = f"{version // 10000}.{version % 10000}"
        raise StartupError(f"PostgreSQL 15 to 18 is needed (of 18, 18.2 or newer), and this server is {found}.")
    if read_only:
        raise StartupError("The database is read-only, so it can't be migrated. Is DATABASE_URL that of a standby?")


def take_turn(connection: Connection) -> None:
    """Waits until no other process migrates this database. The lock lasts as long as the connection.

    A statement that waited in the server would keep a snapshot, for which CREATE INDEX CONCURRENTLY in the other process
    waits in turn.
    """
    waited = False
    while not connection.scalar(text("SELECT pg_try_advisory_lock(:turn)"), {"turn": TURN}):
        connection.rollback()
        if not waited:
            log.info("Waiting for another process that migrates this database")
            waited = True
        time.sleep(TURN_PAUSE)
    connection.rollback()


def make_schema(connection: Connection) -> None:
    # Not IF NOT EXISTS, which needs the privilege to create schemas also where there is nothing to create.
    if not connection.scalar(text("SELECT count(*) FROM pg_namespace WHERE nspname = :schema"), {"schema": SCHEMA}):
        connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))
        connection.execute(text(f"COMMENT ON SCHEMA {SCHEMA} IS '{MADE_HERE}'"))


def leave_nothing_behind(connection: Connection) -> None:
    """After the downgrade of everything: drops the version table, and the schema if it was made here and is empty."""
    if context.get_context().get_current_heads():
        return
    connection.execute(text(f"DROP TABLE IF EXISTS {SCHEMA}.{VERSION_TABLE}"))
    droppable = text("""
        SELECT obj_description(oid, 'pg_namespace') = :made_here AND NOT EXISTS (
            SELECT FROM pg_depend WHERE refclassid = 'pg_namespace'::regclass AND refobjid = pg_namespace.oid
        ) FROM pg_namespace WHERE nspname = :schema
    """)
    if connection.scalar(droppable, {"schema": SCHEMA, "made_here": MADE_HERE}):
        connection.execute(text(f"DROP SCHEMA {SCHEMA}"))


def is_known(name: str | None, kind: str, parents: Any) -> bool:
    """Which schemas and tables of the database are compared with the models: the platform's own are not."""
    if kind == "schema":
        return name == SCHEMA
    if kind == "table":
        return f"{parents['schema_name']}.{name}" in Base.metadata.tables
    return True


def without_comments_on(adopted: Adopted) -> Any:
    """A hook that leaves the comments of adopted tables to the platform: no filter of Alembic's is asked about them."""

    def filter_comments(_context: object, _revision: object, scripts: list[MigrationScript]) -> None:
        for script in scripts:
            changes = script.upgrade_ops.ops if script.upgrade_ops else []
            for change in changes:
                if isinstance(change, ModifyTableOps) and change.table_name in adopted.tables:
                    change.ops = [part for part in change.ops if not isinstance(part, (CreateTableCommentOp, DropTableCommentOp))]

    return filter_comments


def main() -> None:
    if context.is_offline_mode():
        raise CommandError("These migrations look at the database first, so they can't be written out as SQL.")
    url = config.attributes.get("url") or os.environ.get("DATABASE_URL")
    if not url:
        raise CommandError("Set DATABASE_URL, as in postgresql+asyncpg://user:password@host:5432/database")
    if config.cmd_opts is None:
        asyncio.run(connect_and_run(url))
        return
    logging.basicConfig(format="%(message)s")
    for speaks in ("alembic.env", "alembic.runtime.migration"):
        logging.getLogger(speaks).setLevel(logging.INFO)
    try:
        asyncio.run(connect_and_run(url))
    except StartupError as refused:
        raise CommandError(str(refused)) from refused  # which Alembic's command line shows as one line


main()
