"""What a process remembers of keys, and what it forgets when it is told."""

import asyncio
from collections.abc import AsyncIterator, Callable
from decimal import Decimal

import pytest

from app.catalog.callers import Caller, Callers
from app.catalog.guesses import Guesses
from app.database import Database as ProxyDatabase
from app.errors import Unauthenticated
from app.runtime.change_feed import caller_notices
from app.runtime.tasks import OwnedTasks
from tests.harness.postgres import Database
from tests.harness.scene import Scene

DISABLE = "UPDATE aigcspace.key_policy SET disabled_at = now() WHERE key_id = $1"


class SlowCallers(Callers):
    """What it reads next, after `hold`, reaches it when the gate is open."""

    def __init__(self, *services: object, **settings: object) -> None:
        super().__init__(*services, **settings)  # type: ignore[arg-type]
        self._gates: list[asyncio.Event] = []
        self.has_read = asyncio.Event()

    def hold(self) -> asyncio.Event:
        self._gates.append(asyncio.Event())
        return self._gates[-1]

    async def _look_up(self, *asked: object) -> Caller:
        found = await super()._look_up(*asked)  # type: ignore[arg-type]
        self.has_read.set()
        if self._gates:
            await self._gates.pop().wait()
        return found


@pytest.fixture
async def callers(db: Database) -> AsyncIterator[SlowCallers]:
    database = ProxyDatabase(db.url, pool_size=3)
    async with OwnedTasks() as tasks:
        yield SlowCallers(database, tasks, default_credit=Decimal(0), longest_wait=10.0, guesses=Guesses(0))
    await database.close()


async def test_only_the_key_that_has_changed_is_asked_for_anew(new_scene: Callable[..., Scene], callers: SlowCallers) -> None:
    changed, other = new_scene(), new_scene()
    for scene in (changed, other):
        await callers.find(scene.key, None)
        scene.db.execute(DISABLE, scene.key_id)

    callers.forget({caller_notices(key_id=changed.key_id, user_id=changed.user)[0]})

    with pytest.raises(Unauthenticated):
        await callers.find(changed.key, None)
    assert (await callers.find(other.key, None)).key_id == other.key_id


async def test_what_was_read_before_a_change_is_not_remembered_after_it(scene: Scene, callers: SlowCallers) -> None:
    gate = callers.hold()
    before = asyncio.ensure_future(callers.find(scene.key, None))
    await callers.has_read.wait()
    scene.db.execute("UPDATE aigcspace.key_policy SET models = '{new}' WHERE key_id = $1", scene.key_id)
    callers.forget(set(caller_notices(key_id=scene.key_id, user_id=scene.user)))
    assert (await callers.find(scene.key, None)).models == ("new",)
    gate.set()

    assert (await before).models is None
    assert (await callers.find(scene.key, None)).models == ("new",)
