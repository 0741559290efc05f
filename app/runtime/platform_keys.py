"""Keys that the platform makes itself, in a column of its own of `platform_api_key`: `PLATFORM_KEY_COLUMN`.

A key inserted there works at once, as it is looked up there by the SHA-256 of what a caller presents: no plain key is sent to
the database, and how long a comparison takes tells nothing of one. An expression index makes that a look into an index; each
start builds it where it is missing, while the platform goes on writing. Nothing else is added, and no row is touched.

A row that has a `key_hash` was made or rotated here, and is known by that alone. Raises `StartupError` where the column isn't
there, or can't hold keys.
"""

import hashlib
from dataclasses import dataclass
from typing import Self

from sqlalchemy import Connection

from app.database import SCHEMA
from app.errors import StartupError
from app.runtime.found_tables import columns, is_valid
from app.settings import Settings

TABLE = "platform_api_key"
INDEX_PREFIX = "ix_platform_api_key_own_"
_TEXTS = ("character varying", "text", "character")


@dataclass(frozen=True, slots=True)
class PlatformKeys:
    """`format`: `plain`, the key itself; `sha256`, its SHA-256 in hexadecimal."""

    column: str
    format: str

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        if settings.platform_key_column is None or settings.platform_key_column == "key_hash":
            return None  # by which every key is known
        return cls(settings.platform_key_column, settings.platform_key_format)

    @property
    def digest(self) -> str:
        """SQL: the SHA-256 of a row's key, in lower case. As in the index, and in `ledger/functions/holds_platform_secret.sql`."""
        # `convert_to` may not stand in an index; a cast to bytea reads backslashes, which are doubled for that
        return f"lower({self.held})" if self.format == "sha256" else rf"encode(sha256(replace({self.held}, '\', '\\')::bytea), 'hex')"

    @property
    def held(self) -> str:
        """SQL: what the column holds."""
        name = self.column.replace('"', '""')
        return f'{TABLE}."{name}"::text'

    @property
    def index(self) -> str:
        return INDEX_PREFIX + hashlib.sha256(f"{self.format} {self.column}".encode()).hexdigest()[:8]

    def presented(self, digest: str) -> str:
        """What the reserve step looks for again: see `ledger/functions/holds_platform_secret.sql`."""
        return f"{digest} {self.format} {self.column}"


def prepare(connection: Connection, keys: PlatformKeys) -> None:
    """Builds the index. `connection` commits each statement by itself."""
    _require_column(connection, keys)
    valid = is_valid(connection, keys.index)
    if valid:
        return
    # Nothing here makes others wait, and all of it takes as long as the table is big or a transaction old.
    connection.exec_driver_sql("SET statement_timeout = 0")
    connection.exec_driver_sql("SET lock_timeout = 0")
    if valid is False:
        connection.exec_driver_sql(f"DROP INDEX CONCURRENTLY {SCHEMA}.{keys.index}")
    connection.exec_driver_sql(f"CREATE INDEX CONCURRENTLY {keys.index} ON {SCHEMA}.{TABLE} (({keys.digest})) WHERE key_hash IS NULL")


def _require_column(connection: Connection, keys: PlatformKeys) -> None:
    found = columns(connection, TABLE)
    if keys.column not in found:
        known = ", ".join(sorted(found))
        raise StartupError(
            f"PLATFORM_KEY_COLUMN: {SCHEMA}.{TABLE} has no column {keys.column!r}, but {known}. Name the one that holds keys"
        )
    if (type_ := found[keys.column].type) not in _TEXTS:
        raise StartupError(f"PLATFORM_KEY_COLUMN: {keys.column!r} is of type {type_}, and keys are text. Name the column that holds them")
