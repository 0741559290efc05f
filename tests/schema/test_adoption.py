"""The migrations over a platform's own tables: nothing of the platform's is lost, changed or in its way."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from uuid import uuid4

import asyncpg
import pytest
from alembic import command
from sqlalchemy import make_url

from app.errors import StartupError
from app.runtime.migrations import config, upgrade
from tests.harness.background import Background
from tests.harness.postgres import Database, connect
from tests.schema import platform
from tests.schema.catalog import rows_of, schema_of
from tests.schema.seed import COLUMNS, INDEXES
from tests.schema.upgrading import Upgrading

Building = Callable[[], AbstractContextManager[Upgrading]]

SHARED = ("users", "platform_api_key", "api_call_log")

BARE = """
CREATE SCHEMA aigcspace;
CREATE TABLE aigcspace.users (id TEXT PRIMARY KEY);
CREATE TABLE aigcspace.platform_api_key (id INTEGER PRIMARY KEY);
CREATE TABLE aigcspace.api_call_log (id BIGSERIAL PRIMARY KEY, user_id TEXT NOT NULL, model_name TEXT NOT NULL);
INSERT INTO aigcspace.users VALUES ('a');
INSERT INTO aigcspace.api_call_log (user_id, model_name) VALUES ('a', 'm'), ('gone', 'm');
"""


@pytest.fixture
def platforms(empty_database: Database) -> Database:
    platform.build(empty_database)
    return empty_database


@pytest.fixture
def building(platforms: Database, background: Background) -> Building:
    """An upgrade that has begun to build an index, and goes on when the block is left.

    A transaction with an old snapshot makes the build wait.
    """

    @contextmanager
    def until_left() -> Iterator[Upgrading]:
        old = background.run(connect(make_url(platforms.url)))
        background.run(old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class"))
        replica = Upgrading(platforms.url)
        try:
            deadline = time.monotonic() + 30
            while not platforms.value("SELECT count(*) FROM pg_index WHERE indisready AND NOT indisvalid"):
                assert replica.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield replica
        finally:
            background.run(old.close())
            replica.end()

    return until_left


def test_rows_are_kept(platforms: Database) -> None:
    before = rows_of(platforms, *SHARED)
    question = "SELECT relname, relfilenode FROM pg_class WHERE relname = ANY ($1) ORDER BY 1"
    files = platforms.fetch(question, SHARED)
    upgrade(platforms.url)
    after = rows_of(platforms, *SHARED)
    for table in SHARED:
        known = before[table][0].keys()
        assert [{name: row[name] for name in known} for row in after[table]] == before[table]
    assert platforms.fetch(question, SHARED) == files, "a table was rewritten"


def test_the_platforms_programs_go_on_writing(platforms: Database) -> None:
    upgrade(platforms.url)
    platform.run(platforms, platform.WRITES)
    row = platforms.one("SELECT * FROM aigcspace.api_call_log WHERE user_id = 'late'")
    assert (row["region"], row["request_id"], row["charge"]) == ("cn", None, None)


def test_every_added_column_is_nullable_or_has_a_default(platforms: Database) -> None:
    upgrade(platforms.url)
    added = platforms.fetch("""
        SELECT table_name, column_name, is_nullable = 'YES' OR column_default IS NOT NULL AS harmless
        FROM aigcspace.adopted JOIN information_schema.columns USING (table_name)
        WHERE kind = 'column' AND name = column_name AND table_schema = 'aigcspace'
    """)
    assert {"request_id", "charge", "key_hash"} <= {row["column_name"] for row in added}
    assert all(row["harmless"] for row in added)


def test_what_was_missing_is_there(platforms: Database) -> None:
    upgrade(platforms.url)
    valid = platforms.value(
        "SELECT count(*) FROM pg_index JOIN pg_class ON oid = indexrelid WHERE indisvalid AND relname = ANY ($1)", list(INDEXES)
    )
    assert valid == len(INDEXES)
    request_id = uuid4()
    insert = """
        INSERT INTO aigcspace.api_call_log
            (user_id, model_name, is_local, input_tokens, output_tokens, bill, status, request_id)
        VALUES ('u1', 'm', false, 0, 0, 0, 'success', $1)
    """
    platforms.execute(insert, request_id)
    with pytest.raises(asyncpg.UniqueViolationError):
        platforms.execute(insert, request_id)


def test_the_check_looks_past_what_is_the_platforms(platforms: Database) -> None:
    upgrade(platforms.url)
    command.check(config(platforms.url))


@pytest.mark.parametrize(
    "drift",
    [
        "ALTER TABLE aigcspace.api_call_log ALTER COLUMN charge TYPE NUMERIC(30, 10)",
        "ALTER TABLE aigcspace.api_call_log DROP COLUMN attempts",
        "ALTER TABLE aigcspace.api_call_log DROP CONSTRAINT uq_api_call_log_request_id",
        "DROP INDEX aigcspace.idx_api_call_log_is_local",
        "ALTER TABLE aigcspace.platform_api_key ALTER COLUMN key_hash SET NOT NULL",
        "ALTER TABLE aigcspace.account ADD COLUMN surplus INTEGER",
    ],
)
def test_the_check_sees_every_difference_in_what_is_ours(platforms: Database, drift: str) -> None:
    upgrade(platforms.url)
    platforms.execute("TRUNCATE aigcspace.api_call_log, aigcspace.platform_api_key CASCADE")
    platforms.execute(drift)
    with pytest.raises(Exception, match="New upgrade operations detected"):
        command.check(config(platforms.url))


def test_down_leaves_the_platform_as_it_was_found(platforms: Database) -> None:
    schema, rows = schema_of(platforms), rows_of(platforms, *SHARED)
    upgrade(platforms.url)
    assert schema_of(platforms) != schema
    command.downgrade(config(platforms.url), "base")
    assert schema_of(platforms) == schema
    assert rows_of(platforms, *SHARED) == rows


def test_down_keeps_the_rows_of_calls_made_meanwhile(platforms: Database) -> None:
    upgrade(platforms.url)
    platform.run(platforms, platform.WRITES)
    command.downgrade(config(platforms.url), "base")
    assert platforms.value("SELECT count(*) FROM aigcspace.api_call_log WHERE user_id = 'late'") == 1


def test_up_again_after_down(platforms: Database) -> None:
    upgrade(platforms.url)
    first = schema_of(platforms)
    command.downgrade(config(platforms.url), "base")
    upgrade(platforms.url)
    assert schema_of(platforms) == first
    command.check(config(platforms.url))


def test_replicas_that_start_together_adopt_once(platforms: Database) -> None:
    replicas = [Upgrading(platforms.url) for _ in range(4)]
    assert [replica.end()[0] for replica in replicas] == [0] * 4
    command.check(config(platforms.url))


def test_a_bare_table_gets_all_that_is_missing_and_loses_it_again(empty_database: Database) -> None:
    """Also a foreign key that old rows break: it holds for new ones."""
    platform.run(empty_database, BARE)
    before = schema_of(empty_database), rows_of(empty_database, *SHARED)
    upgrade(empty_database.url)
    columns = empty_database.fetch("SELECT column_name FROM information_schema.columns WHERE table_name = 'api_call_log'")
    assert {seed.name for seed in COLUMNS} <= {row["column_name"] for row in columns}
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        empty_database.execute("INSERT INTO aigcspace.api_call_log (user_id, model_name) VALUES ('nobody', 'm')")
    empty_database.execute("INSERT INTO aigcspace.api_call_log (user_id, model_name) VALUES ('a', 'm')")
    empty_database.execute("DELETE FROM aigcspace.api_call_log WHERE id > 2")
    command.check(config(empty_database.url))
    command.downgrade(config(empty_database.url), "base")
    assert (schema_of(empty_database), rows_of(empty_database, *SHARED)) == before


@pytest.mark.parametrize("kept", [("users",), ("users", "platform_api_key")])
def test_tables_that_the_platform_lacks_are_made_and_dropped_again(platforms: Database, kept: tuple[str, ...]) -> None:
    for table in reversed(SHARED):
        if table not in kept:
            platforms.execute(f"DROP TABLE aigcspace.{table} CASCADE")
    before = schema_of(platforms), rows_of(platforms, *kept)
    upgrade(platforms.url)
    command.check(config(platforms.url))
    command.downgrade(config(platforms.url), "base")
    assert (schema_of(platforms), rows_of(platforms, *kept)) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("ALTER TABLE aigcspace.users RENAME id TO uid", "aigcspace.users can't be adopted: it has no column id."),
        ("ALTER TABLE aigcspace.users DROP CONSTRAINT users_pkey CASCADE", "its column id is neither primary key nor unique."),
        ("ALTER TABLE aigcspace.platform_api_key ALTER id TYPE bigint", "its column id is of type bigint, and must be integer."),
        ("ALTER TABLE aigcspace.api_call_log ALTER bill TYPE float8", "is of type double precision, and must be numeric."),
        ("ALTER TABLE aigcspace.api_call_log ALTER bill TYPE numeric(12, 2)", "its column bill holds 2 decimals, and must hold 4."),
        ("ALTER TABLE aigcspace.api_call_log ADD tags text", "its column tags is of type text, and must be jsonb."),
        ("ALTER TABLE aigcspace.api_call_log ALTER region DROP DEFAULT", "its column region is NOT NULL without a default"),
        ("CREATE INDEX idx_api_call_log_is_local ON aigcspace.users (email)", "aigcspace.idx_api_call_log_is_local is there already"),
        ("ALTER TABLE aigcspace.platform_api_key ADD key_hash TEXT DEFAULT 'x'", "its column key_hash must be unique"),
        ("CREATE TABLE aigcspace.account (id INTEGER)", "aigcspace.account is there already"),
    ],
)
def test_a_table_that_can_not_serve_stops_the_start_and_nothing_changes(platforms: Database, change: str, message: str) -> None:
    platforms.execute("DROP VIEW aigcspace.expensive")
    platform.run(platforms, change)
    before = schema_of(platforms)
    with pytest.raises(StartupError) as refused:
        upgrade(platforms.url)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert schema_of(platforms) == before


def test_users_with_ids_that_are_no_strings_are_refused(empty_database: Database) -> None:
    platform.run(empty_database, "CREATE SCHEMA aigcspace; CREATE TABLE aigcspace.users (id UUID PRIMARY KEY)")
    with pytest.raises(StartupError, match="its column id is of type uuid, and must be character varying or text"):
        upgrade(empty_database.url)


def test_an_index_that_an_interrupted_build_left_is_built_again(platforms: Database, building: Building) -> None:
    with building() as replica:
        replica.kill()
        platforms.execute("""
            SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE application_name = 'billing-proxy migrate' AND datname = current_database()
        """)
    assert platforms.value("SELECT count(*) FROM pg_index WHERE NOT indisvalid") == 1
    upgrade(platforms.url)
    assert platforms.value("SELECT count(*) FROM pg_index WHERE NOT indisvalid") == 0
    command.check(config(platforms.url))


def test_a_replica_waits_for_a_build_of_one_that_was_killed(platforms: Database, building: Building) -> None:
    with building() as replica:
        replica.kill()
        second = Upgrading(platforms.url)
        time.sleep(1)
        assert second.poll() is None
    assert second.end() == (0, "")
    command.check(config(platforms.url))


def test_the_platform_reads_and_writes_while_indexes_are_built(platforms: Database, building: Building) -> None:
    with building() as replica:
        platform.run(platforms, "SET lock_timeout = '1s';" + platform.WRITES)
        assert replica.poll() is None
    assert replica.end()[0] == 0
    assert platforms.value("SELECT count(*) FROM aigcspace.api_call_log WHERE user_id = 'late'") == 1


def test_a_busy_table_stops_the_start_with_one_line(platforms: Database) -> None:
    platforms.execute("BEGIN")
    platforms.execute("LOCK TABLE aigcspace.api_call_log IN ACCESS SHARE MODE")
    try:
        with pytest.raises(StartupError, match=r"^A table to migrate is in use by a long transaction\..*$"):
            upgrade(platforms.url)
    finally:
        platforms.execute("ROLLBACK")
