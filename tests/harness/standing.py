"""The installation that most tests share: one database and one proxy a test process, as tests of calls see nothing of each
other. A package whose tests share it imports these fixtures into its `conftest.py`; without them, each module has its own."""

from collections.abc import Iterator

import pytest

from tests.harness.fault_books import assert_audit
from tests.harness.postgres import Database
from tests.harness.proxy import Proxy


@pytest.fixture(scope="session")
def db(standing_db: Database) -> Database:
    return standing_db


@pytest.fixture(scope="session")
def proxy(standing_proxy: Proxy) -> Proxy:
    return standing_proxy


def standing(db: Database, proxy: Proxy) -> Iterator[Proxy]:
    """Until the session ends, at which it must stop as it should, and leave books that prove right."""
    yield proxy.wait_ready()
    output = proxy.output()
    assert proxy.stop() == 0, output
    assert_audit(db)
