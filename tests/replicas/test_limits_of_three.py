"""Three processes on one database, 64 clients at once: what keys, users and groups may do is as exact as in one process."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest

from tests.harness.admin import Admin
from tests.harness.books import books, wait_until
from tests.harness.fault_books import assert_books
from tests.harness.load import Load, Seen
from tests.harness.postgres import Database
from tests.harness.proxy import Proxy
from tests.harness.scale import scaled
from tests.harness.scene import Scene
from tests.harness.standing import standing

CLIENTS = 64
CALLS = scaled(full=200, short=6)
"""Of each client."""
PER_CALL = Decimal("0.01")
LIMIT = 20
SPENT = PER_CALL * LIMIT
SPENDING = ("spend_limit", "daily_limit", "monthly_limit")
SHARED = ("rpm", "daily_limit", "monthly_limit")
"""What users and groups have, too."""


@pytest.fixture(scope="module")
def three(
    standing_db: Database, standing_proxy: Proxy, replica: Proxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Proxy, ...]]:
    more = Proxy(database_url=standing_db.url, directory=tmp_path_factory.mktemp("third"))
    for third in standing(standing_db, more):
        yield standing_proxy, replica, third


@dataclass
class Payer:
    user: str
    key: str
    key_id: int


@dataclass
class Floor:
    """A scene whose calls cost the same each, known to three processes."""

    scene: Scene
    three: tuple[Proxy, ...]

    def payer(self, scope: str, **limits: Any) -> Payer:
        """With limits of their key, their own, or their group's."""
        admin, user = self.scene.admin, f"{self.scene.user}-{scope}-{'-'.join(limits)}"
        of_user: dict[str, Any] = {}
        if scope == "group":
            admin.ask("POST", "/admin/groups", json={"name": user, **limits})
            of_user = {"group": user}
        admin.add_user(user)
        if scope != "key":
            admin.ask("PATCH", f"/admin/users/{user}", json=of_user or limits)
        admin.add_credit(user, "1000")
        made = admin.add_key(user, **(limits if scope == "key" else {}))
        return Payer(user, made["key"], made["id"])

    @contextmanager
    def clients(self, payers: Sequence[Payer], *, calls: int | None, **fields: Any) -> Iterator[list[Load]]:
        """All at once, at all processes, with the keys in turn. `calls`: of each; None: until the block ends."""
        with ExitStack() as stack:
            yield [
                stack.enter_context(
                    Load(
                        one.url,
                        key=[payer.key for payer in payers],
                        model=self.scene.model,
                        in_flight=in_flight,
                        calls=calls and in_flight * calls,
                        **fields,
                    )
                )
                for one, in_flight in zip(self.three, (22, 21, 21), strict=True)
            ]

    def load(self, *payers: Payer, calls: int, **fields: Any) -> float:
        """Returns the seconds that it took."""
        started = time.monotonic()
        with self.clients(payers, calls=calls, **fields) as loads:
            for load in loads:
                assert {seen.status for seen in load.wait()} <= {200, 402, 429}
        return time.monotonic() - started

    def statuses(self, payer: Payer, **fields: Any) -> list[int]:
        """Of one call at each process."""
        headers, body = {"Authorization": f"Bearer {payer.key}"}, self.scene.chat(**fields)
        urls = [f"{one.url}/v1/chat/completions" for one in self.three]
        return [self.scene.http.post(url, json=body, headers=headers).status_code for url in urls]

    def served(self, payer: Payer) -> list[dict[str, Any]]:
        return self.scene.db.fetch("SELECT * FROM aigcspace.api_call_log WHERE user_id = $1 AND status = 'success'", payer.user)

    def spent(self, payer: Payer) -> Decimal:
        spent: Decimal = self.scene.db.value("SELECT spent FROM aigcspace.account WHERE user_id = $1", payer.user)
        return spent


@pytest.fixture
def floor(new_scene: Callable[..., Scene], three: tuple[Proxy, ...]) -> Iterator[Floor]:
    scene = new_scene(rates={"request": f"{PER_CALL}", "input": "0", "output": "0"})
    for one in three:
        scene.known_to(one)
    yield Floor(scene, three)
    books(scene.db)
    assert_books(scene.db)


@pytest.mark.parametrize("scope", ["key", "user", "group"])
def test_requests_a_minute_and_what_may_be_spent_are_exact(floor: Floor, scope: str) -> None:
    limits = [*SHARED, *(("spend_limit",) if scope == "key" else ())]
    payers = {limit: floor.payer(scope, **{limit: str(SPENT) if limit in SPENDING else LIMIT}) for limit in limits}

    seconds = floor.load(*payers.values(), calls=CALLS)

    for limit, payer in payers.items():
        served = len(floor.served(payer))
        if limit == "rpm":  # it drains meanwhile
            assert LIMIT <= served <= LIMIT + seconds * LIMIT / 60
        else:
            assert (served, floor.spent(payer)) == (LIMIT, SPENT), limit


@pytest.mark.parametrize("scope", ["key", "user", "group"])
def test_calls_in_flight_are_exact(floor: Floor, scope: str) -> None:
    payer, upstream = floor.payer(scope, max_concurrency=LIMIT), floor.scene.upstream
    gate = upstream.hold()

    with floor.clients([payer], calls=1) as loads:
        try:
            all_others = (CLIENTS - LIMIT, LIMIT)
            wait_until(lambda: (len(seen_by(loads)), len(upstream.requests)) == all_others, what="all others are refused")
            assert {seen.status for seen in seen_by(loads)} == {429}
        finally:
            gate.open()
        assert sorted(seen.status or 0 for load in loads for seen in load.wait()) == [200] * LIMIT + [429] * (CLIENTS - LIMIT)

    assert len(floor.served(payer)) == LIMIT
    assert floor.statuses(payer) == [200] * 3


@pytest.mark.parametrize("scope", ["key", "user", "group"])
def test_tokens_a_minute_are_exceeded_by_what_was_estimated_too_low_and_no_more(floor: Floor, scope: str) -> None:
    """Estimates alone are never granted beyond the limit. What the calls have used beyond them is a debt: nothing is let through
    until it has drained."""
    most, used = 2000, 500
    payer = floor.payer(scope, tpm=most)
    floor.scene.upstream.answer(json=answer_that_used(used), always=True)

    seconds = floor.load(payer, calls=1, max_tokens=50)

    served = floor.served(payer)
    level = floor.scene.db.value(
        "SELECT token_level FROM aigcspace.account WHERE user_id = $1"
        if scope != "key"
        else "SELECT token_level FROM aigcspace.key_meter JOIN aigcspace.platform_api_key ON key_id = id WHERE user_id = $1",
        payer.user,
    )
    least_estimate = 50
    drained = seconds * most / 60
    assert 0 < len(served) <= (most + drained) / least_estimate
    assert sum(row["input_tokens"] + row["output_tokens"] for row in served) == used * len(served)
    assert used * len(served) - drained <= level <= used * len(served)
    assert level > most, "there is a debt"
    assert floor.statuses(payer, max_tokens=1) == [429] * 3


def test_a_key_that_is_revoked_under_load_is_refused_at_its_next_call_everywhere(floor: Floor) -> None:
    payer = floor.payer("key")
    with floor.clients([payer], calls=None, pause=0.1) as loads:
        wait_until(lambda: all(load.successes > CLIENTS // 3 for load in loads), what="it is used everywhere")
        with Admin(floor.three[1].url) as operator:
            operator.ask("DELETE", f"/admin/keys/{payer.key_id}")
        revoked = time.monotonic()
        assert floor.statuses(payer) == [401] * 3
        wait_until(lambda: all(sum(seen.started > revoked for seen in load.seen) > CLIENTS // 3 for load in loads), what="more calls")
    seen = seen_by(loads)
    assert {one.status for one in seen if one.started > revoked} == {401}
    assert {one.status for one in seen} == {200, 401}
    assert len(floor.served(payer)) == sum(one.is_success for one in seen)
    assert floor.spent(payer) == len(floor.served(payer)) * PER_CALL


def seen_by(loads: Sequence[Load]) -> list[Seen]:
    return [seen for load in loads for seen in list(load.seen)]


def answer_that_used(tokens: int) -> dict[str, Any]:
    usage = {"prompt_tokens": tokens - 10, "completion_tokens": 10, "total_tokens": tokens}
    message = {"role": "assistant", "content": "so be it"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "stand-in", "choices": [choice], "usage": usage}
