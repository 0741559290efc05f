"""Tables that the platform made before this service: what is added to them, and how that is taken back.

The table `adopted` remembers which tables were found and what is to be added to them, so that the downgrade removes that
and no more. A migration adopts in three steps, each of which can be repeated after the process was killed:

    plan()      one transaction: refuses what can't work, makes the tables that are missing, adds columns and foreign keys
    build()     no transaction: builds indexes and checks old rows, while the platform goes on reading and writing
    finish()    in the migration's last transaction: turns unique indexes into constraints

A column is nullable here unless the server has a default for it, so that no row is rewritten and the platform's own
INSERTs go on working. Raises `StartupError` from `plan()`, before anything has changed, where a table can't serve.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from alembic import op
from sqlalchemy import CheckConstraint, Column, Connection, ForeignKeyConstraint, Table, Text, text
from sqlalchemy.exc import IntegrityError

from app.database import SCHEMA
from app.errors import StartupError
from app.runtime.found_tables import WantedIndex, columns, exists, is_valid, require_adoptable, require_free, require_writable, value

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Adopted:
    """`tables` were found; `added` holds `(table, kind, name)`, kind being `column`, `index`, `unique` or `foreign_key`.
    Both are empty where all tables were made here."""

    tables: frozenset[str] = field(default_factory=frozenset)
    added: frozenset[tuple[str, str, str]] = field(default_factory=frozenset)

    @classmethod
    def read(cls, connection: Connection) -> "Adopted":
        if not exists(connection, "adopted"):
            return cls()
        rows = connection.execute(text(f"SELECT table_name, kind, name FROM {SCHEMA}.adopted")).all()
        return cls(
            tables=frozenset(table for table, kind, _ in rows if kind == "table"),
            added=frozenset((table, kind, name) for table, kind, name in rows if kind != "table"),
        )

    def of(self, kind: str) -> list[tuple[str, str]]:
        return sorted((table, name) for table, its_kind, name in self.added if its_kind == kind)

    def leaves_to_us(self, item: Any, name: str | None, kind: str, reflected: bool, found: Any) -> bool:
        """Alembic's `include_object`: what the platform has in an adopted table is not compared with the models."""
        table = None if kind == "table" else item.table.name
        if table not in self.tables:
            return True
        if kind == "foreign_key_constraint":
            return (table, "foreign_key", _foreign_key_name(item)) in self.added
        if not reflected and found is None:
            return True
        if kind == "column" and not reflected and found.nullable and not item.nullable:
            return False
        return (table, kind.removesuffix("_constraint"), name) in self.added


def plan(tables: Sequence[Table], *, written: Table, own: Sequence[str]) -> None:
    """`tables` in the order of their foreign keys. `written`: the one to which this service adds rows at every call.
    `own`: names of tables that are to be made here."""
    connection = op.get_bind()
    if exists(connection, "adopted"):
        return
    found = [table for table in tables if exists(connection, table.name)]
    for name in (*own, "adopted"):
        require_free(connection, name)
    for table in found:
        require_adoptable(connection, table)
    if written in found:
        require_writable(connection, written)

    op.create_table(
        "adopted",
        Column("table_name", Text(), primary_key=True),
        Column("kind", Text(), primary_key=True),
        Column("name", Text(), primary_key=True),
        CheckConstraint("kind in ('table', 'column', 'index', 'unique', 'foreign_key')", name="ck_adopted_kind"),
        schema=SCHEMA,
        comment="Tables that were here before this service, and what it added to them. The downgrade goes by it.",
    )
    for table in tables:
        if table in found:
            _remember(connection, table.name, "table", table.name)
            _add_columns(connection, table)
            _plan_indexes(connection, table)
        else:
            table.create(connection)
    for table in found:
        _add_foreign_keys(connection, table)


def build(tables: Sequence[Table]) -> None:
    adopted = Adopted.read(op.get_bind())
    if not adopted.added:
        return
    with op.get_context().autocommit_block():
        connection = op.get_bind()
        # Nothing here makes others wait, and all of it takes as long as a table is big or a transaction old.
        connection.exec_driver_sql("SET statement_timeout = 0")
        connection.exec_driver_sql("SET lock_timeout = 0")
        for table in tables:
            for index in WantedIndex.of(table):
                if (table.name, "unique" if index.unique else "index", index.name) in adopted.added:
                    _build_index(connection, index)
        for table_name, name in adopted.of("foreign_key"):
            _check_old_rows(connection, table_name, name)
        connection.exec_driver_sql("RESET statement_timeout")
        connection.exec_driver_sql("RESET lock_timeout")


def finish() -> None:
    for table, name in Adopted.read(op.get_bind()).of("unique"):
        op.execute(f"ALTER TABLE {SCHEMA}.{table} ADD CONSTRAINT {name} UNIQUE USING INDEX {name}")


def undo(tables: Sequence[Table]) -> None:
    """In the downgrade's transaction: takes back what was added, and drops the tables that were made here."""
    adopted = Adopted.read(op.get_bind())
    for table, name in (*adopted.of("foreign_key"), *adopted.of("unique")):
        op.drop_constraint(name, table, schema=SCHEMA, if_exists=True)
    for table, name in adopted.of("index"):
        op.drop_index(name, table, schema=SCHEMA, if_exists=True)
    for table, name in adopted.of("column"):
        op.drop_column(table, name, schema=SCHEMA, if_exists=True)
    for made in reversed(tables):
        if made.name not in adopted.tables:
            op.drop_table(made.name, schema=SCHEMA)
    op.drop_table("adopted", schema=SCHEMA)


def _add_columns(connection: Connection, table: Table) -> None:
    found = columns(connection, table.name)
    for column in table.columns:
        if column.name not in found:
            nullable = column.nullable or column.server_default is None
            described: dict[str, Any] = {"server_default": column.server_default, "nullable": nullable, "comment": column.comment}
            op.add_column(table.name, Column(column.name, column.type, **described), schema=SCHEMA)
            _remember(connection, table.name, "column", column.name)


def _plan_indexes(connection: Connection, table: Table) -> None:
    for index in WantedIndex.of(table):
        if not is_valid(connection, index.name):
            _remember(connection, table.name, "unique" if index.unique else "index", index.name)


def _add_foreign_keys(connection: Connection, table: Table) -> None:
    """Where the platform has a foreign key on the column to the same table, it stays as it is."""
    present = """
        SELECT count(*) FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid AND conkey = ARRAY[attnum]
        WHERE contype = 'f' AND conrelid = to_regclass(:table) AND confrelid = to_regclass(:target) AND attname = :column
    """
    for key in sorted(table.foreign_key_constraints, key=_foreign_key_name):
        (column,), target, name = key.column_keys, key.referred_table.name, _foreign_key_name(key)
        if not value(connection, present, table=f"{SCHEMA}.{table.name}", target=f"{SCHEMA}.{target}", column=column):
            op.create_foreign_key(
                name,
                table.name,
                target,
                [column],
                ["id"],
                ondelete=key.ondelete,
                source_schema=SCHEMA,
                referent_schema=SCHEMA,
                postgresql_not_valid=True,
            )
            _remember(connection, table.name, "foreign_key", name)


def _build_index(connection: Connection, index: WantedIndex) -> None:
    valid = is_valid(connection, index.name)
    if valid:
        return
    if valid is False:
        connection.exec_driver_sql(f"DROP INDEX CONCURRENTLY {SCHEMA}.{index.name}")
    unique = "UNIQUE" if index.unique else ""
    connection.exec_driver_sql(f"CREATE {unique} INDEX CONCURRENTLY {index.name} ON {SCHEMA}.{index.table} ({', '.join(index.columns)})")


def _check_old_rows(connection: Connection, table: str, foreign_key: str) -> None:
    try:
        connection.exec_driver_sql(f"ALTER TABLE {SCHEMA}.{table} VALIDATE CONSTRAINT {foreign_key}")
    except IntegrityError:
        log.warning("some old rows refer to nothing: the foreign key holds for new rows only", table=table, foreign_key=foreign_key)


def _foreign_key_name(key: ForeignKeyConstraint) -> str:
    """The name that PostgreSQL gives to a foreign key of one column."""
    return f"{key.table.name}_{'_'.join(key.column_keys)}_fkey"


def _remember(connection: Connection, table: str, kind: str, name: str) -> None:
    connection.execute(
        text(f"INSERT INTO {SCHEMA}.adopted (table_name, kind, name) VALUES (:table, :kind, :name)"),
        {"table": table, "kind": kind, "name": name},
    )


def add_columns(table: str, added: Sequence[Column[Any]]) -> None:
    """For later migrations: nullable columns of a table that may be the platform's."""
    connection = op.get_bind()
    taken = columns(connection, table)
    for column in added:
        if column.name in taken:
            raise StartupError(f"{SCHEMA}.{table} has a column `{column.name}` of its own, which this service needs. Rename it.")
        op.add_column(table, column._copy(), schema=SCHEMA)
        if table in Adopted.read(connection).tables:
            _remember(connection, table, "column", column.name)


def drop_columns(table: str, added: Sequence[Column[Any]]) -> None:
    """What `add_columns` added."""
    connection = op.get_bind()
    for column in added:
        op.drop_column(table, column.name, schema=SCHEMA)
        if exists(connection, "adopted"):
            connection.execute(
                text(f"DELETE FROM {SCHEMA}.adopted WHERE table_name = :table AND kind = 'column' AND name = :name"),
                {"table": table, "name": column.name},
            )


def build_indexes(table: str, added: Mapping[str, str]) -> None:
    """For later migrations: indexes of a table that may be the platform's, and big, built while others read and write it. What
    follows `ON table` by the index's name. Leaves the migration's transaction; can be repeated after the process was killed."""
    connection = op.get_bind()
    is_adopted = table in Adopted.read(connection).tables
    with op.get_context().autocommit_block():
        connection = op.get_bind()
        connection.exec_driver_sql("SET statement_timeout = 0")
        connection.exec_driver_sql("SET lock_timeout = 0")
        for name, definition in added.items():
            if is_adopted and (table, "index", name) not in Adopted.read(connection).added:
                _remember(connection, table, "index", name)
            valid = is_valid(connection, name)
            if valid is False:
                connection.exec_driver_sql(f"DROP INDEX CONCURRENTLY {SCHEMA}.{name}")
            if not valid:
                connection.exec_driver_sql(f"CREATE INDEX CONCURRENTLY {name} ON {SCHEMA}.{table} {definition}")
        connection.exec_driver_sql("RESET statement_timeout")
        connection.exec_driver_sql("RESET lock_timeout")


def drop_indexes(table: str, names: Sequence[str]) -> None:
    """What `build_indexes` added."""
    connection = op.get_bind()
    for name in names:
        op.drop_index(name, table, schema=SCHEMA, if_exists=True)
        if exists(connection, "adopted"):
            connection.execute(
                text(f"DELETE FROM {SCHEMA}.adopted WHERE table_name = :table AND kind = 'index' AND name = :name"),
                {"table": table, "name": name},
            )
