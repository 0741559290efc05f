from collections.abc import Iterator

import pytest

from tests.harness.postgres import Database, Databases
from tests.schema.catalog import unmigrated


@pytest.fixture
def empty_database(databases: Databases) -> Iterator[Database]:
    """A database that no migration has seen."""
    with unmigrated(databases) as database:
        yield database
