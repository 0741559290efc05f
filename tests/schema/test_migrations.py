"""Up, down and up again, on an empty database; and what stops a start."""

from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import make_url

from app.errors import StartupError
from app.runtime.migrations import config, upgrade
from tests.harness.postgres import Database, Databases
from tests.schema.catalog import schema_of
from tests.schema.upgrading import Upgrading

ROOT = Path(__file__).parents[2]


def schema_exists(database: Database) -> bool:
    return bool(database.value("SELECT count(*) FROM pg_namespace WHERE nspname = 'aigcspace'"))


def test_models_and_migrations_agree(empty_database: Database) -> None:
    upgrade(empty_database.url)
    command.check(config(empty_database.url))


@pytest.mark.parametrize(
    "drift",
    [
        "ALTER TABLE aigcspace.account ALTER COLUMN credit TYPE NUMERIC(18, 4)",
        "ALTER TABLE aigcspace.account ADD COLUMN surplus INTEGER",
        "ALTER TABLE aigcspace.api_call_log ADD COLUMN surplus INTEGER",
        "ALTER TABLE aigcspace.api_call_log ALTER COLUMN status DROP NOT NULL",
        "ALTER TABLE aigcspace.api_call_log DROP CONSTRAINT api_call_log_user_id_fkey",
        "DROP INDEX aigcspace.idx_api_call_log_is_local",
        "ALTER TABLE aigcspace.upstream ALTER COLUMN auth DROP DEFAULT",
        "COMMENT ON COLUMN aigcspace.api_call_log.bill IS 'other'",
        "DROP TABLE aigcspace.usage_hourly",
    ],
)
def test_the_check_sees_every_difference(databases: Databases, drift: str) -> None:
    with databases.fresh() as migrated:
        migrated.execute(drift)
        with pytest.raises(Exception, match="New upgrade operations detected"):
            command.check(config(migrated.url))


def test_down_leaves_nothing_and_up_works_again(empty_database: Database) -> None:
    upgrade(empty_database.url)
    first = schema_of(empty_database)
    command.downgrade(config(empty_database.url), "base")
    assert not schema_exists(empty_database)
    upgrade(empty_database.url)
    assert schema_of(empty_database) == first


def test_down_keeps_a_schema_in_which_something_else_is(empty_database: Database) -> None:
    upgrade(empty_database.url)
    empty_database.execute("CREATE TABLE aigcspace.other (id INTEGER)")
    command.downgrade(config(empty_database.url), "base")
    assert [row["relname"] for row in schema_of(empty_database)["relations"]] == ["other"]


def test_down_keeps_a_schema_that_was_there(empty_database: Database) -> None:
    empty_database.execute("CREATE SCHEMA aigcspace")
    upgrade(empty_database.url)
    command.downgrade(config(empty_database.url), "base")
    assert schema_exists(empty_database)
    assert schema_of(empty_database)["relations"] == []


def test_a_second_upgrade_changes_nothing(empty_database: Database) -> None:
    upgrade(empty_database.url)
    first = schema_of(empty_database)
    upgrade(empty_database.url)
    assert schema_of(empty_database) == first


def test_a_role_whose_search_path_is_the_schema_sees_no_difference(empty_database: Database) -> None:
    name = make_url(empty_database.url).database
    empty_database.execute(f'ALTER DATABASE "{name}" SET search_path = aigcspace')
    upgrade(empty_database.url)
    command.check(config(empty_database.url))


def test_replicas_that_start_together_migrate_once(empty_database: Database) -> None:
    replicas = [Upgrading(empty_database.url) for _ in range(4)]
    assert [replica.end() for replica in replicas] == [(0, "")] * 4
    assert empty_database.value("SELECT count(*) FROM aigcspace.billing_proxy_version") == 1


def test_a_database_that_is_not_there_stops_the_start() -> None:
    with pytest.raises(StartupError, match=r"^Can't reach the database postgresql\+asyncpg://me:\*\*\*@127\.0\.0\.1:1/x: .+$"):
        upgrade("postgresql+asyncpg://me:secret@127.0.0.1:1/x")


def test_an_unknown_database_name_stops_the_start(empty_database: Database) -> None:
    url = make_url(empty_database.url).set(database="never_made").render_as_string(hide_password=False)
    with pytest.raises(StartupError, match=r'^Can\'t reach the database .*: database "never_made" does not exist$'):
        upgrade(url)


def test_a_read_only_database_stops_the_start(empty_database: Database) -> None:
    name = make_url(empty_database.url).database
    empty_database.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    with pytest.raises(StartupError, match=r"^The database is read-only.*$"):
        upgrade(empty_database.url)


def test_a_newer_database_stops_the_start(empty_database: Database) -> None:
    upgrade(empty_database.url)
    empty_database.execute("UPDATE aigcspace.billing_proxy_version SET version_num = '9999'")
    with pytest.raises(StartupError, match=r"^The database was migrated by a newer version of this program\..*$"):
        upgrade(empty_database.url)


def test_a_table_of_the_same_name_stops_the_start_and_nothing_changes(empty_database: Database) -> None:
    empty_database.execute("CREATE SCHEMA aigcspace")
    empty_database.execute("CREATE TABLE aigcspace.model (id INTEGER)")
    before = schema_of(empty_database)
    with pytest.raises(StartupError, match=r"^aigcspace\.model is there already, .*$"):
        upgrade(empty_database.url)
    assert schema_of(empty_database) == before
