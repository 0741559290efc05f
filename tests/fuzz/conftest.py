"""One proxy with little patience, for all that is sent here."""

import os
from collections.abc import Iterator

import pytest

from tests.harness.admin import Admin
from tests.harness.postgres import Database
from tests.harness.proxy import Proxy
from tests.harness.scene import Scene
from tests.harness.scene import scene as set_scene
from tests.harness.standing import db, proxy, standing  # noqa: F401

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "300"))
"""How many requests are made up; `make test-fuzz` sends 20,000."""
IS_LONG = EXAMPLES > 1000
PATIENCE = 1
"""Seconds."""
MOST = 60


@pytest.fixture(scope="session")
def hasty(standing_db: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    place, settings = tmp_path_factory.mktemp("hasty"), {"REQUEST_WAIT": str(PATIENCE), "MAX_CONNECTIONS": str(MOST)}
    yield from standing(standing_db, Proxy(database_url=standing_db.url, directory=place, **settings))


@pytest.fixture(scope="module")
def hasty_scene(hasty: Proxy, standing_db: Database) -> Iterator[Scene]:
    with Admin(hasty.url) as admin, set_scene(hasty, admin, standing_db) as scene:
        yield scene
