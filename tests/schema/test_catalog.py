"""What `upgrade` makes of an empty database is the definition that the platform gave, and what the models say."""

from collections.abc import Iterator

import pytest
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable, SetColumnComment, SetTableComment

from app.database import Base
from app.ledger import functions
from app.runtime.migrations import upgrade
from tests.harness.postgres import Database, Databases
from tests.schema.catalog import schema_of, unmigrated
from tests.schema.seed import COLUMNS, FOREIGN_KEYS, INDEXES, TABLE_COMMENT

OF_MIGRATIONS = {"adopted", "billing_proxy_version"}
"""Tables that only migrations use, and so have no model."""


@pytest.fixture(scope="module")
def migrated(databases: Databases) -> Iterator[Database]:
    with unmigrated(databases) as database:
        upgrade(database.url)
        yield database


@pytest.fixture(scope="module")
def from_models(databases: Databases) -> Iterator[Database]:
    with unmigrated(databases) as database:
        database.execute("CREATE SCHEMA aigcspace")
        for statement in _definitions():
            database.execute(statement)
        yield database


def _definitions() -> Iterator[str]:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    for table in Base.metadata.sorted_tables:
        yield str(CreateTable(table).compile(dialect=dialect))
        for index in table.indexes:
            yield str(CreateIndex(index).compile(dialect=dialect))
        if table.comment:
            yield str(SetTableComment(table).compile(dialect=dialect))
        for column in table.columns:
            if column.comment:
                yield str(SetColumnComment(column).compile(dialect=dialect))


def test_api_call_log_has_the_given_columns(migrated: Database) -> None:
    found = migrated.fetch("""
        SELECT column_name, format_type(atttypid, atttypmod) AS type, is_nullable = 'YES' AS nullable, column_default,
            col_description(attrelid, attnum) AS comment
        FROM information_schema.columns JOIN pg_attribute ON attrelid = 'aigcspace.api_call_log'::regclass AND attname = column_name
        WHERE table_schema = 'aigcspace' AND table_name = 'api_call_log' ORDER BY ordinal_position
    """)
    expected = [(seed.name, seed.postgres, seed.nullable, seed.server_default, seed.comment) for seed in COLUMNS]
    assert [tuple(row.values()) for row in found[: len(COLUMNS)]] == expected
    assert all(row["nullable"] or row["column_default"] for row in found[len(COLUMNS) :])


def test_api_call_log_has_the_given_indexes(migrated: Database) -> None:
    rows = migrated.fetch("SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'api_call_log'")
    found = {row["indexname"]: row["indexdef"] for row in rows}
    for name, column in INDEXES.items():
        assert found[name] == f"CREATE INDEX {name} ON aigcspace.api_call_log USING btree ({column})"


def test_api_call_log_has_the_given_keys(migrated: Database) -> None:
    found = migrated.fetch("""
        SELECT conname, pg_get_constraintdef(oid) AS definition FROM pg_constraint
        WHERE conrelid = 'aigcspace.api_call_log'::regclass AND contype IN ('p', 'f')
    """)
    expected = {"api_call_log_pkey": "PRIMARY KEY (id)"}
    for column, (target, on_delete) in FOREIGN_KEYS.items():
        table, _, key = target.rpartition(".")
        expected[f"api_call_log_{column}_fkey"] = f"FOREIGN KEY ({column}) REFERENCES {table}({key}) ON DELETE {on_delete}"
    assert {row["conname"]: row["definition"] for row in found} == expected


def test_api_call_log_has_the_given_comment(migrated: Database) -> None:
    assert migrated.value("SELECT obj_description('aigcspace.api_call_log'::regclass, 'pg_class')") == TABLE_COMMENT


@pytest.mark.parametrize("part", ["columns", "constraints", "indexes"])
def test_migrations_make_what_the_models_say(migrated: Database, from_models: Database, part: str) -> None:
    def ours(database: Database) -> list[dict[str, object]]:
        rows = schema_of(database)[part]
        return [row for row in rows if not any(name in str(row) for name in OF_MIGRATIONS)]

    assert ours(migrated) == ours(from_models)


def test_functions_are_those_of_the_files(migrated: Database) -> None:
    found = migrated.fetch("SELECT proname, prosrc FROM pg_proc WHERE pronamespace = 'aigcspace'::regnamespace")
    assert {row["proname"] for row in found} == functions.SOURCES.keys()
    for row in found:
        assert f"AS $${row['prosrc']}$$" in functions.SOURCES[row["proname"]]


def test_busy_tables_leave_room_in_their_pages(migrated: Database) -> None:
    options = {row["relname"]: row["reloptions"] for row in schema_of(migrated)["relations"] if row["reloptions"]}
    assert options == {"account": "{fillfactor=50}", "key_meter": "{fillfactor=50}", "usage_period": "{fillfactor=70}"}


@pytest.mark.parametrize(
    "change",
    [
        "INSERT INTO aigcspace.upstream (name, base_url) VALUES ('trigger', 'http://localhost')",
        "UPDATE aigcspace.upstream SET name = 'trigger-2' WHERE name = 'trigger'",
        "DELETE FROM aigcspace.upstream WHERE name = 'trigger-2'",
        "INSERT INTO aigcspace.model (name) VALUES ('trigger')",
        "TRUNCATE aigcspace.model, aigcspace.model_route",
        "INSERT INTO aigcspace.model_price (model_name, rates) VALUES ('trigger', '{}')",
        "UPDATE aigcspace.model_route SET weight = 2",
    ],
)
def test_every_change_of_the_catalog_raises_its_version(migrated: Database, change: str) -> None:
    before = migrated.value("SELECT version FROM aigcspace.catalog_version")
    migrated.execute(change)
    assert migrated.value("SELECT version FROM aigcspace.catalog_version") > before


def test_the_catalog_has_one_version(migrated: Database) -> None:
    with pytest.raises(Exception, match="ck_catalog_version_only"):
        migrated.execute('INSERT INTO aigcspace.catalog_version ("only") VALUES (false)')
