"""Brings the database to the version of this code.

Several processes may do so at once: one migrates, and the others wait for it (`alembic/env.py`). Raises `StartupError`
with one line: the database can't be reached or is read-only, its version is newer than this code, one of its tables
can't be adopted, or it is busy.
"""

from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError

from app.database import said, sqlstate
from app.errors import StartupError
from app.runtime.platform_keys import PlatformKeys

VERSION_TABLE = "billing_proxy_version"
"""Not Alembic's own name, which the platform may use in the same schema."""
_INI = Path(__file__).parents[2] / "alembic.ini"
_NOT_REACHED = ("08", "28", "3D", "57P")
"""SQLSTATEs, or their beginnings: connection, password, no such database, the server is starting or stopping."""
_EXPLAINED = {
    "25006": "The database is read-only, so it can't be migrated.",
    "55P03": "A table to migrate is in use by a long transaction. Nothing is lost: start again when it is over.",
    "42501": "The database role of DATABASE_URL may not do what the migration needs",
}


def config(url: str) -> Config:
    """What Alembic's commands take, for the database `url`."""
    made = Config(str(_INI))
    made.attributes["url"] = url
    return made


def head() -> str:
    """The newest version that this program knows."""
    return ScriptDirectory.from_config(Config(str(_INI))).get_current_head() or ""


def upgrade(url: str, *, platform_keys: PlatformKeys | None = None) -> None:
    """`url` is `postgresql+asyncpg://...`. `platform_keys`: are made ready to be looked up. Not to be called where an event loop
    runs."""
    made = config(url)
    made.attributes["platform_keys"] = platform_keys
    try:
        command.upgrade(made, "head")
    except CommandError as error:
        if "Can't locate revision" in str(error):
            raise StartupError("The database was migrated by a newer version of this program. Update the program.") from error
        raise
    except (DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise StartupError(_explain(error, url)) from error


def _explain(error: Exception, url: str) -> str:
    state = sqlstate(error)
    if not state or state.startswith(_NOT_REACHED):
        return f"Can't reach the database {make_url(url).render_as_string()}: {said(error)}"
    if state in _EXPLAINED:
        explained = _EXPLAINED[state]
        return explained if explained.endswith(".") else f"{explained}: {said(error)}"
    return f"The database can't be migrated: {said(error)}"
