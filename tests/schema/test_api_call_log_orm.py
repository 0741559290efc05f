"""`ApiCallLog` is the definition that the platform gave, to the letter."""

from typing import cast

import pytest
from sqlalchemy import Column, DefaultClause, Index, Table

from app.models import ApiCallLog
from tests.schema.seed import COLUMNS, FOREIGN_KEYS, INDEXES, NOTHING, TABLE_COMMENT, SeedColumn

TABLE = cast(Table, ApiCallLog.__table__)
SEED = pytest.mark.parametrize("seed", COLUMNS, ids=lambda seed: seed.name)


@SEED
def test_type_is_the_given_one(seed: SeedColumn) -> None:
    kind = TABLE.c[seed.name].type
    precision = (getattr(kind, "precision", None), getattr(kind, "scale", None)) if seed.orm[2] else None
    assert (type(kind).__name__, getattr(kind, "length", None), precision) == seed.orm
    assert not getattr(kind, "timezone", False)


@SEED
def test_nullability_and_comment_are_the_given_ones(seed: SeedColumn) -> None:
    column = TABLE.c[seed.name]
    assert (column.nullable, column.comment) == (seed.nullable, seed.comment)


@SEED
def test_defaults_are_the_given_ones(seed: SeedColumn) -> None:
    column = TABLE.c[seed.name]
    default = getattr(column.default, "arg", NOTHING)
    assert (type(default), default) == (type(seed.default), seed.default)
    given = str(column.server_default.arg) if isinstance(column.server_default, DefaultClause) else None
    assert given == (seed.server_default if seed.name != "id" else None)
    assert (column.onupdate, column.server_onupdate) == (None, None)


def test_given_columns_come_first_and_in_the_given_order() -> None:
    assert [column.name for column in TABLE.columns][: len(COLUMNS)] == [seed.name for seed in COLUMNS]


def test_a_program_that_writes_only_the_given_columns_never_notices_the_others() -> None:
    others = list(TABLE.columns)[len(COLUMNS) :]
    assert others
    assert all(column.nullable or column.server_default is not None for column in others)


def test_primary_key_is_an_automatic_id() -> None:
    assert [column.name for column in TABLE.primary_key.columns] == ["id"]
    assert TABLE.c.id.autoincrement is True


def test_foreign_keys_are_the_given_ones() -> None:
    found = {key.parent.name: (key.target_fullname, key.ondelete) for key in TABLE.foreign_keys}
    assert found == FOREIGN_KEYS
    assert all((key.onupdate, key.deferrable, key.initially, key.match) == (None,) * 4 for key in TABLE.foreign_keys)


def test_the_five_given_indexes_are_there() -> None:
    def described(index: Index) -> tuple[list[str], bool, dict[str, object]]:
        return [part.name for part in index.expressions if isinstance(part, Column)], index.unique, dict(index.dialect_kwargs)

    found = {str(index.name): described(index) for index in TABLE.indexes}
    assert {name: found.get(name) for name in INDEXES} == {name: ([column], False, {}) for name, column in INDEXES.items()}


def test_schema_name_and_comment_are_the_given_ones() -> None:
    assert (TABLE.schema, TABLE.name, TABLE.comment) == ("aigcspace", "api_call_log", TABLE_COMMENT)
    assert ApiCallLog.__tablename__ == "api_call_log"


def test_repr_names_the_call() -> None:
    assert "model_name=gpt-x" in repr(ApiCallLog(id=7, user_id="u", model_name="gpt-x"))
