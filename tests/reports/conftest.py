"""A database that each module has for itself, and reports asked as the routes ask them."""

from collections.abc import Iterator

import pytest

from app.database import Database as Connections
from tests.harness.postgres import Database


@pytest.fixture(scope="module")
def connections(db: Database) -> Iterator[Connections]:
    made = Connections(db.url, pool_size=2)
    yield made
    db.run(made.close())
