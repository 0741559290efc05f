"""Two proxies on one database: the standing one, and a replica that would not look for changes by itself before an hour has
passed, that has proxies before it, and that soon leaves an upstream which says nothing."""

from collections.abc import Iterator

import pytest

from tests.harness.postgres import Database
from tests.harness.proxy import Proxy
from tests.harness.standing import db, proxy, standing  # noqa: F401

NEVER = {"CHANGE_POLL": "3600"}


@pytest.fixture(scope="session")
def replica(standing_db: Database, standing_proxy: Proxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Started after the other one, and stopped before it."""
    settings = {**NEVER, "TRUSTED_PROXIES": "127.0.0.1, 10.0.0.0/8", "FIRST_BYTE_WAIT": "0.3"}
    started = Proxy(database_url=standing_db.url, directory=tmp_path_factory.mktemp("replica"), **settings)
    yield from standing(standing_db, started)
