"""What PostgreSQL's catalog says of the schema `aigcspace`, as plain values that can be compared."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.harness.postgres import Database, Databases

_QUERIES = {
    "schema": "SELECT obj_description(oid, 'pg_namespace') AS comment FROM pg_namespace WHERE nspname = 'aigcspace'",
    "relations": """
        SELECT relname, relkind, relpersistence, reloptions::text, relacl::text, obj_description(oid, 'pg_class') AS comment
        FROM pg_class WHERE relnamespace = 'aigcspace'::regnamespace ORDER BY relname
    """,
    "columns": """
        SELECT relname, row_number() OVER (PARTITION BY relname ORDER BY attnum) AS place, attname,
            format_type(atttypid, atttypmod) AS type, attnotnull, attidentity, attgenerated, attacl::text,
            pg_get_expr(adbin, adrelid) AS server_default, col_description(attrelid, attnum) AS comment
        FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
        LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE relnamespace = 'aigcspace'::regnamespace AND relkind = 'r' AND attnum > 0 AND NOT attisdropped ORDER BY relname, place
    """,
    "constraints": """
        SELECT conrelid::regclass::text AS relation, conname, pg_get_constraintdef(oid) AS definition, convalidated,
            obj_description(oid, 'pg_constraint') AS comment
        FROM pg_constraint WHERE connamespace = 'aigcspace'::regnamespace AND contype <> 'n' ORDER BY relation, conname
    """,
    "indexes": """
        SELECT pg_get_indexdef(indexrelid) AS definition, indisvalid, indisready FROM pg_index JOIN pg_class ON oid = indrelid
        WHERE relnamespace = 'aigcspace'::regnamespace ORDER BY 1
    """,
    "triggers": """
        SELECT pg_get_triggerdef(pg_trigger.oid) AS definition FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
        WHERE relnamespace = 'aigcspace'::regnamespace AND NOT tgisinternal ORDER BY 1
    """,
    "functions": """
        SELECT pg_get_functiondef(oid) AS definition FROM pg_proc WHERE pronamespace = 'aigcspace'::regnamespace ORDER BY 1
    """,
}


@contextmanager
def unmigrated(databases: Databases) -> Iterator[Database]:
    with databases.fresh(migrated=False) as database:
        # Names are shown with their schema, also to a role of the schema's name.
        database.execute("SET search_path = pg_catalog")
        yield database


def schema_of(database: Database) -> dict[str, list[dict[str, Any]]]:
    return {part: database.fetch(sql) for part, sql in _QUERIES.items()}


def rows_of(database: Database, *tables: str) -> dict[str, list[dict[str, Any]]]:
    return {table: database.fetch(f"SELECT * FROM aigcspace.{table} ORDER BY id") for table in tables}
