"""An export of a database that can't be reached."""

import socket

import pytest

from app.database import Database
from app.errors import Unavailable
from app.reports.export import AT_ONCE, Exports


async def test_while_the_database_is_away_each_is_refused_as_unavailable() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # which keeps others from listening there
        database = Database(f"postgresql+asyncpg://nobody@127.0.0.1:{nobody.getsockname()[1]}/nothing", pool_size=1)
        exports = Exports(database)
        for _ in range(AT_ONCE + 1):
            with pytest.raises(Unavailable) as refused:
                async with exports.starting():
                    pass
            assert (refused.value.status, refused.value.code) == (503, "database_unavailable")
        await database.close()
