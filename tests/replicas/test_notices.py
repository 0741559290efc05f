"""What the triggers tell: never anything for a call, never much for a statement that changes many rows, and no secrets."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from sqlalchemy import make_url

from app.runtime.change_feed import CHANNEL, Changes, caller_notices
from tests.harness.postgres import Database, connect
from tests.harness.scene import Scene

Heard = Callable[[], Awaitable[list[str]]]
MANY = 3000


@pytest.fixture
async def heard(db: Database) -> AsyncIterator[Heard]:
    """All that was notified since the start of the test, or since it was last asked for."""
    connection = await connect(make_url(db.url))
    notices: list[str] = []
    await connection.add_listener(CHANNEL, lambda *notice: notices.append(str(notice[3])))

    async def so_far() -> list[str]:
        await connection.execute(f"NOTIFY {CHANNEL}, 'the end'")  # what was committed before comes first
        new = notices[: notices.index("the end")]
        notices.clear()
        return new

    yield so_far
    await connection.close()


async def test_calls_and_columns_that_nobody_remembers_notify_nothing(scene: Scene, heard: Heard) -> None:
    assert scene.post(scene.chat()).status_code == 200
    scene.row()
    scene.admin.add_credit(scene.user, "1")
    for unchanged in (
        "UPDATE aigcspace.users SET name = 'another' WHERE id = $1",
        "UPDATE aigcspace.platform_api_key SET name = 'another', key_hash = key_hash WHERE user_id = $1",
        "UPDATE aigcspace.account SET credit = credit, held = held, disabled_at = disabled_at WHERE user_id = $1",
    ):
        scene.db.execute(unchanged, scene.user)

    assert await heard() == []


async def test_a_change_names_its_key_and_its_user_alone(scene: Scene, heard: Heard) -> None:
    scene.db.execute("UPDATE aigcspace.key_policy SET rpm = 5 WHERE key_id = $1", scene.key_id)
    scene.db.execute("UPDATE aigcspace.account SET disabled_at = now() WHERE user_id = $1", scene.user)
    scene.db.execute("UPDATE aigcspace.model_route SET weight = 2 WHERE upstream_id = $1", scene.upstream_id)

    assert await heard() == [*caller_notices(key_id=scene.key_id, user_id=scene.user), "catalog"]


async def test_a_statement_that_changes_many_rows_is_told_in_few_notices(scene: Scene, heard: Heard) -> None:
    scene.db.execute(
        f"INSERT INTO aigcspace.platform_api_key (user_id, name) SELECT $1, 'bulk ' || n FROM generate_series(1, {MANY}) n", scene.user
    )
    mine = "SELECT id FROM aigcspace.platform_api_key WHERE user_id = $1 AND name LIKE 'bulk %'"
    scene.db.execute(f"UPDATE aigcspace.platform_api_key SET key_hash = md5(id::text) WHERE id IN ({mine})", scene.user)
    assert await heard() == [], "keys that had no secret before are remembered nowhere"

    scene.db.execute(f"INSERT INTO aigcspace.key_policy (key_id) {mine}", scene.user)

    notices = await heard()
    assert len(notices) == len(set(notices)) == 1024
    assert all(re.fullmatch(r"key \d{1,4}", notice) for notice in notices)
    scene.db.execute("DELETE FROM aigcspace.users WHERE id = $1", scene.user)


async def test_a_transaction_that_says_so_notifies_nothing_and_the_next_one_does(scene: Scene, heard: Heard) -> None:
    of_catalog = f"UPDATE aigcspace.model_route SET weight = 2 WHERE upstream_id = {scene.upstream_id}"
    change = f"UPDATE aigcspace.account SET disabled_at = now() WHERE user_id = '{scene.user}'; {of_catalog}"
    version = scene.db.value("SELECT version FROM aigcspace.catalog_version")

    scene.db.execute(f"BEGIN; SET LOCAL aigcspace.notify = 'off'; {change}; COMMIT")

    assert await heard() == []
    assert scene.db.value("SELECT version FROM aigcspace.catalog_version") > version
    scene.db.execute(change.replace("now()", "NULL"))
    assert await heard() == [caller_notices(key_id=scene.key_id, user_id=scene.user)[1], "catalog"]


@pytest.mark.parametrize("notice", ["all", "", "callers of a later version", "catalogue"])
def test_a_notice_that_is_not_understood_may_mean_everything(notice: str) -> None:
    changes = Changes()
    changes.add(notice)
    assert changes.everything
