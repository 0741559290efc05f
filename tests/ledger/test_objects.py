"""Who made what upstreams keep: found at the right upstream, and forgotten when providers keep it no more."""

from collections.abc import Iterator
from typing import Any

import pytest

from app.ledger.objects import UpstreamObjects, forget_old
from tests.harness.books import wait_until
from tests.harness.postgres import Database
from tests.ledger.calls import Call, Payer, make_payer
from tests.ledger.replica import Replica

DAY = 86_400.0


@pytest.fixture(scope="module")
def replica(db: Database) -> Iterator[Replica]:
    running = Replica(db.url)
    yield running
    running.close()


@pytest.fixture
def payer(db: Database) -> Payer:
    return make_payer(db, credit="10")


def begin(replica: Replica, payer: Payer, object_id: str, *, upstream_id: int = 1) -> Call:
    """A call that goes on in the background."""
    call = payer.call("1")
    replica.hold(call)
    going = {"upstream_id": upstream_id, "object_id": object_id, "terms": {"started": 0}}
    replica.settle(call.using(cost="0", deferred=going, objects=[object_id], upstream_id=upstream_id))
    return call


def make(replica: Replica, payer: Payer, *object_ids: str, **fields: Any) -> None:
    call = payer.call("1")
    replica.hold(call)
    replica.settle(call.using(objects=list(object_ids), upstream_id=1, **fields))


def kept(db: Database, payer: Payer) -> set[str]:
    return {row["object_id"] for row in db.fetch("SELECT object_id FROM aigcspace.upstream_object WHERE user_id = $1", payer.user_id)}


def grow_old(db: Database, payer: Payer, days: int = 40) -> None:
    db.execute(
        "UPDATE aigcspace.upstream_object SET created_at = created_at - make_interval(days => $2) WHERE user_id = $1", payer.user_id, days
    )


def forget(replica: Replica, *, most: int = 1000) -> int:
    return replica.run(forget_old(replica.database, age=31 * DAY, most=most))


def test_a_call_of_another_upstream_with_the_same_id_is_another(replica: Replica, payer: Payer) -> None:
    objects = UpstreamObjects(replica.database, longest_wait=10)
    begin(replica, payer, "resp_same", upstream_id=1)
    there = begin(replica, payer, "resp_same", upstream_id=2)

    found = replica.run(objects.find(payer.user_id, "resp_same"))

    assert found is not None
    assert (found.upstream_id, [call.request_id for call in found.pending]) == (2, [there.request_id])


def test_calls_of_an_upstream_that_gives_an_id_again_are_all_found(replica: Replica, payer: Payer) -> None:
    objects = UpstreamObjects(replica.database, longest_wait=10)
    calls = {begin(replica, payer, "resp_again").request_id for _ in range(2)}

    found = replica.run(objects.find(payer.user_id, "resp_again"))

    assert found is not None
    assert {call.request_id for call in found.pending} == calls


def test_what_is_old_is_forgotten_in_batches(db: Database, replica: Replica, payer: Payer) -> None:
    make(replica, payer, "resp_1", "msg_1", "msg_2")
    grow_old(db, payer)
    make(replica, payer, "resp_2")

    assert [forget(replica, most=2) for _ in range(3)] == [2, 1, 0]

    assert kept(db, payer) == {"resp_2"}


def test_what_lies_in_a_conversation_or_goes_on_stays(db: Database, replica: Replica, payer: Payer) -> None:
    objects = UpstreamObjects(replica.database, longest_wait=10)
    call = payer.call("1")
    for upstream_id in (2, 1):  # the newest is meant
        replica.run(objects.remember(payer.user_id, ["conv_1", "conv_1"], upstream_id=upstream_id, request_id=call.request_id))
    assert replica.run(objects.places(payer.user_id, ["conv_1"])) == {"conv_1": 1}
    make(replica, payer, "resp_1", "msg_1", are_lasting=True)
    make(replica, payer, "resp_2")
    begin(replica, payer, "resp_3")
    grow_old(db, payer)

    forget(replica)

    assert kept(db, payer) == {"conv_1", "resp_1", "msg_1", "resp_3"}


def test_what_comes_again_is_young_again(db: Database, replica: Replica, payer: Payer) -> None:
    make(replica, payer, "container_1")
    grow_old(db, payer)
    make(replica, payer, "container_1")

    forget(replica)

    assert kept(db, payer) == {"container_1"}


def test_it_happens_where_a_lease_is_renewed(db: Database, payer: Payer) -> None:
    running = Replica(db.url, lease=0.6, objects_age=31 * DAY)
    try:
        make(running, payer, "resp_1")
        grow_old(db, payer)

        wait_until(lambda: not kept(db, payer), what="what is old is forgotten")
    finally:
        running.close()
