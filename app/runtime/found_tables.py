"""What is in the schema before the first migration, and whether it can serve.

Raises `StartupError` with one line where a table of the platform's has no usable id, a column whose type would refuse or
round what is written to it, or a NOT NULL column that nobody would fill.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Connection, Numeric, Table, UniqueConstraint, text

from app.database import SCHEMA
from app.errors import StartupError

_SERVES_AS = {
    "VARCHAR": {"character varying", "text"},
    "TEXT": {"character varying", "text"},
    "TEXT[]": {"_varchar", "_text"},
    "INTEGER": {"integer", "bigint"},
    "BIGINT": {"integer", "bigint"},
    "NUMERIC": {"numeric"},
    "BOOLEAN": {"boolean"},
    "TIMESTAMP WITHOUT TIME ZONE": {"timestamp without time zone"},
    "UUID": {"uuid"},
    "JSONB": {"jsonb"},
}
"""What a column may be, as information_schema names it, by what it is where it is made here."""


@dataclass(frozen=True)
class FoundColumn:
    """`scale`: of a NUMERIC with a declared one. `filled`: a row gets a value without being given one."""

    type: str
    scale: int | None
    nullable: bool
    filled: bool


@dataclass(frozen=True)
class WantedIndex:
    """`unique`: the index of a unique constraint of the same name."""

    name: str
    table: str
    columns: tuple[str, ...]
    unique: bool

    @classmethod
    def of(cls, table: Table) -> Iterator["WantedIndex"]:
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            yield cls(str(index.name), table.name, tuple(column.name for column in index.columns), unique=False)
        for constraint in table.constraints:
            if isinstance(constraint, UniqueConstraint):
                yield cls(str(constraint.name), table.name, tuple(column.name for column in constraint.columns), unique=True)


def exists(connection: Connection, name: str) -> bool:
    return value(connection, "SELECT to_regclass(:name)", name=f"{SCHEMA}.{name}") is not None


def is_valid(connection: Connection, index: str) -> bool | None:
    """False: an index whose concurrent build was interrupted. None: there is none of this name."""
    question = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:index)"
    valid: bool | None = value(connection, question, index=f"{SCHEMA}.{index}")
    return valid


def columns(connection: Connection, table: str) -> dict[str, FoundColumn]:
    rows = connection.execute(
        text("""
            SELECT column_name, CASE data_type WHEN 'ARRAY' THEN udt_name ELSE data_type END, numeric_scale, is_nullable = 'YES',
                column_default IS NOT NULL OR is_identity = 'YES' OR is_generated = 'ALWAYS'
            FROM information_schema.columns WHERE table_schema = :schema AND table_name = :table
        """),
        {"schema": SCHEMA, "table": table},
    )
    return {name: FoundColumn(*described) for name, *described in rows}


def require_free(connection: Connection, name: str) -> None:
    if exists(connection, name):
        raise StartupError(f"{SCHEMA}.{name} is there already, and is not this service's. Rename it, or use another database.")


def require_adoptable(connection: Connection, table: Table) -> None:
    kind = "SELECT relkind::text FROM pg_class WHERE oid = to_regclass(:table)"
    if value(connection, kind, table=f"{SCHEMA}.{table.name}") != "r":
        raise _refusal(table, "it is not an ordinary table")
    found = columns(connection, table.name)
    _require_id(connection, table, found)
    for column in table.columns:
        if column.name in found:
            _require_fitting(connection, column, found[column.name])
    for index in WantedIndex.of(table):
        _require_name(connection, index)
        if index.unique and found.keys() >= set(index.columns):
            _require_distinct(connection, index)


def require_writable(connection: Connection, table: Table) -> None:
    """A trigger may fill what this service doesn't know, so that nothing is said of a table that has one."""
    triggers = "SELECT count(*) FROM pg_trigger WHERE tgrelid = to_regclass(:table) AND NOT tgisinternal"
    if value(connection, triggers, table=f"{SCHEMA}.{table.name}"):
        return
    for name, column in columns(connection, table.name).items():
        if (name == "id" or name not in table.columns) and not column.nullable and not column.filled:
            raise _refusal(table, f"its column {name} is NOT NULL without a default, so that no call could be logged")


def _require_id(connection: Connection, table: Table, found: dict[str, FoundColumn]) -> None:
    if "id" not in found:
        raise _refusal(table, "it has no column id")
    unique = """
        SELECT count(*) FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0]
        WHERE indrelid = to_regclass(:table) AND attname = 'id' AND indnkeyatts = 1 AND indisunique AND indisvalid AND indimmediate
            AND indpred IS NULL
    """
    if not value(connection, unique, table=f"{SCHEMA}.{table.name}"):
        raise _refusal(table, "its column id is neither primary key nor unique")


def _require_fitting(connection: Connection, column: Column[Any], found: FoundColumn) -> None:
    ours = column.type.compile(dialect=connection.dialect).partition("(")[0]
    # The type of a key of API keys is that of the parameters and results of the ledger's functions.
    accepted = {"integer"} if ours == "INTEGER" and column.primary_key else _SERVES_AS[ours]
    if found.type not in accepted:
        raise _refusal(column.table, f"its column {column.name} is of type {found.type}, and must be {' or '.join(sorted(accepted))}")
    if isinstance(column.type, Numeric) and found.scale is not None and found.scale < (column.type.scale or 0):
        raise _refusal(column.table, f"its column {column.name} holds {found.scale} decimals, and must hold {column.type.scale}")


def _require_name(connection: Connection, index: WantedIndex) -> None:
    taken = """
        SELECT indrelid IS DISTINCT FROM to_regclass(:table) FROM pg_class LEFT JOIN pg_index ON indexrelid = pg_class.oid
        WHERE pg_class.oid = to_regclass(:index)
    """
    if value(connection, taken, table=f"{SCHEMA}.{index.table}", index=f"{SCHEMA}.{index.name}"):
        raise StartupError(f"{SCHEMA}.{index.name} is there already, but an index on {index.table} needs the name. Rename what has it.")


def _require_distinct(connection: Connection, index: WantedIndex) -> None:
    names = ", ".join(index.columns)
    twice = f"SELECT 1 FROM {SCHEMA}.{index.table} WHERE ({names}) IS NOT NULL GROUP BY {names} HAVING count(*) > 1 LIMIT 1"
    if value(connection, twice):
        raise StartupError(f"{SCHEMA}.{index.table} can't be adopted: its column {names} must be unique, and holds a value twice.")


def _refusal(table: Any, reason: str) -> StartupError:
    return StartupError(f"{SCHEMA}.{table.name} can't be adopted: {reason}.")


def value(connection: Connection, sql: str, **parameters: object) -> Any:
    return connection.scalar(text(sql), parameters)
