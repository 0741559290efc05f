"""Keys and users are disabled and purged while their calls run: what runs comes to its end, what is new is refused at once, and
nobody else notices. The foreign keys of the platform's table decide what is left of whom."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from decimal import Decimal

import pytest

from tests.faults.conftest import Tally
from tests.faults.test_database_away import streams
from tests.harness import scene as scenes
from tests.harness.admin import Admin
from tests.harness.books import wait_until
from tests.harness.fault_books import Sampler, assert_books, compare
from tests.harness.load import Load, Seen
from tests.harness.postgres import Database
from tests.harness.proxy import Proxy
from tests.harness.scene import Scene

Act = Callable[[Scene], None]


def disable_key(scene: Scene) -> None:
    """As another process does it, or the platform."""
    scene.db.execute("UPDATE aigcspace.key_policy SET disabled_at = now() WHERE key_id = $1", scene.key_id)


def disable_user(scene: Scene) -> None:
    scene.db.execute("UPDATE aigcspace.account SET disabled_at = now() WHERE user_id = $1", scene.user)


def purge_key(scene: Scene) -> None:
    scene.db.execute("DELETE FROM aigcspace.platform_api_key WHERE id = $1", scene.key_id)


def purge_user(scene: Scene) -> None:
    scene.db.execute("DELETE FROM aigcspace.users WHERE id = $1", scene.user)


ACTS: dict[Act, tuple[int, set[str]]] = {
    disable_key: (401, {"api_key_disabled"}),
    disable_user: (403, {"user_disabled"}),
    purge_key: (401, {"invalid_api_key"}),
    purge_user: (401, {"invalid_api_key"}),
}
"""What is done to a user of each scene, and how the calls that come after it are refused."""


@pytest.fixture(scope="module")
def proxy(proxies: Callable[..., Proxy]) -> Proxy:
    return proxies()


@pytest.mark.timeout(900)
def test_keys_and_users_go_while_their_calls_run(
    proxy: Proxy, admin: Admin, db: Database, scale: Callable[..., int], tally: Callable[..., Tally]
) -> None:
    gone = tally("key or user disabled, purged, mid-call", "times", scale(full=100, short=4))
    while not gone.is_complete:
        with ExitStack() as stack:
            stays = stack.enter_context(scenes.scene(proxy, admin, db))
            scene_of = {act: stack.enter_context(scenes.scene(proxy, admin, db)) for act in ACTS}
            aside_of = {act: stack.enter_context(scenes.scene(proxy, admin, db)) for act in ACTS}  # for the streams under way
            stack.enter_context(Sampler(db.url))
            bystander = stack.enter_context(Load(proxy.url, key=stays.key, model=stays.model, in_flight=2))
            load_of = {
                act: stack.enter_context(Load(proxy.url, key=scene.key, model=scene.model, in_flight=2, pause=0.005))
                for act, scene in scene_of.items()
            }
            wait_until(lambda loads=load_of: all(load.successes > 3 for load in loads.values()), what="calls succeed")
            for act, scene in scene_of.items():
                assert_an_act_ends_what_is_new_alone(act, scene, load_of[act], aside_of[act])
                gone.add()
            for load in load_of.values():
                load.stop()
            assert [one for one in bystander.stop() if not one.is_success] == []

            wait_until(lambda: db.value("SELECT count(*) FROM aigcspace.call_hold") == 0, what="nothing is held")
            assert len(stays.rows()) == len(bystander.seen)
            compare(bystander.seen, stays.rows(), stays.upstream.ledger)
            for act in ACTS:
                assert_what_is_left(act, scene_of[act], load_of[act].seen, aside_of[act])
            purge_user(scene_of[purge_key])  # its roll-ups still name the key, and its rows can't
            assert_books(db, at_rest_within=20)


def assert_an_act_ends_what_is_new_alone(act: Act, scene: Scene, load: Load, aside: Scene) -> None:
    status, codes = ACTS[act]
    with streams(aside, [scene.proxy.url] * 2, key=scene.key) as running:
        began = time.monotonic()
        act(scene)
        done = time.monotonic()
        wait_until(lambda: sum(one.started > done for one in load.seen) > 3, what="calls come after it")
        seen = [stream.finish() for stream in running]
    load.seen += seen
    assert all(one.is_success for one in seen), "what runs comes to its end"
    assert all(one.is_success for one in load.seen if one.ended < began)
    assert {one.status for one in load.seen if one.started > done} == {status}
    told = [one for one in load.seen if one.status == status]
    assert all(any(f'"{code}"' in str(one.error) for code in codes) for one in told), told[:3]
    assert [one for one in load.seen if not (one.is_success or one.status == status)] == []


def assert_what_is_left(act: Act, scene: Scene, seen: list[Seen], aside: Scene) -> None:
    rows = scene.rows()
    if act is purge_user:
        assert rows == []
        for table in ("account", "call_hold"):
            assert scene.db.fetch(f"SELECT * FROM aigcspace.{table} WHERE user_id = $1", scene.user) == []
        return
    called = [row for row in rows if row["end_reason"] != "refused"]
    assert {str(row["request_id"]) for row in called} == {one.request_id for one in seen if one.status == 200}
    assert {row["api_key_id"] for row in rows} == {None if act is purge_key else scene.key_id}
    assert {row["status"] for row in called} == {"success"}
    assert all(row["charge"] == 0 and row["http_status"] == 403 for row in rows if row not in called)
    assert (called == rows) == (act is not disable_user), "of a known user, all refusals but 401 leave a row"
    account = scene.account()
    assert (account["held"], account["spent"]) == (0, sum((row["charge"] for row in rows), Decimal(0)))
    assert account["billed"] == sum((row["bill"] for row in rows), Decimal(0))
    compare(seen, rows, scene.upstream.ledger + aside.upstream.ledger)
