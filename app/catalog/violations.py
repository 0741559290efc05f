"""Refusals of the database, in words that say what to do.

`users` and `platform_api_key` may be the platform's own tables, with columns and rules that this service doesn't know.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError

from app.database import sqlstate
from app.errors import Conflict, ProxyError, UnacceptableValue

_NOT_NULL = "23502"
_UNIQUE = "23505"
_OTHER_CONSTRAINTS = ("23503", "23514", "23P01")
_TOO_LONG = "22001"


@contextmanager
def explained(*, table: str, taken: str) -> Iterator[None]:
    """Raises `Conflict` or `UnacceptableValue` in place of a violated constraint; `taken` says what exists already."""
    try:
        yield
    except DBAPIError as error:
        refusal = _explain(error, table=table, taken=taken)
        if refusal is None:
            raise
        raise refusal from error


def _explain(error: DBAPIError, *, table: str, taken: str) -> ProxyError | None:
    state = sqlstate(error)
    cause = error.orig.__cause__ if error.orig is not None else None
    column = getattr(cause, "column_name", None)
    constraint = getattr(cause, "constraint_name", None)
    if state == _NOT_NULL:
        return Conflict(
            f"The table {table} has a column {column!r} that must have a value, and this service has none for it. "
            f"Give the column a default, or make the row where your platform makes its own.",
            code="column_required",
        )
    if state == _UNIQUE:
        return Conflict(taken, code="already_exists")
    if state in _OTHER_CONSTRAINTS:
        return Conflict(f"The table {table} refuses this by its constraint {constraint!r}.", code="constraint_violated")
    if state == _TOO_LONG:
        return UnacceptableValue(f"A value is longer than its column in the table {table}. Shorten it.")
    return None
