"""Fixtures: one replica a module, and a check of the books of all whom a test made, when it is over."""

from collections.abc import Callable, Iterator

import pytest

from tests.harness.postgres import Database
from tests.ledger.calls import Payer, make_payer
from tests.ledger.replica import Replica
from tests.ledger.sums import check


@pytest.fixture(scope="module")
def ledger(db: Database) -> Iterator[Replica]:
    replica = Replica(db.url)
    yield replica
    replica.close()


@pytest.fixture
def new_payer(db: Database) -> Iterator[Callable[..., Payer]]:
    """Makes users with an account and a key: `credit`, `credit_limit`, and columns of `key_policy`."""
    made: list[Payer] = []

    def make(**wanted: object) -> Payer:
        made.append(make_payer(db, **wanted))
        return made[-1]

    yield make
    check(db, [payer.user_id for payer in made])
