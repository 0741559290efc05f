"""Group commit: what waits goes together, each gets its own answer, and nothing that was submitted is lost."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from sqlalchemy.exc import OperationalError

from app.ledger.group_commit import GroupCommit


class Ledger:
    """A commit that tells what it was given. `gate` holds it back; `poison` are items that it rejects."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.committed: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.poison: set[int] = set()
        self.error: Callable[[], Exception] = lambda: ValueError("poison")
        self.at_once = self.most_at_once = 0

    async def commit(self, batch: Sequence[int]) -> list[str]:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.batches.append(list(batch))
        try:
            await self.gate.wait()
            await asyncio.sleep(0)
            if self.poison.intersection(batch):
                raise self.error()
            self.committed += batch
            return [f"answer {item}" for item in batch]
        finally:
            self.at_once -= 1


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@asynccontextmanager
async def running(ledger: Ledger, largest: int = 128) -> AsyncIterator[GroupCommit[int, str]]:
    group: GroupCommit[int, str] = GroupCommit(ledger.commit, lane_of=str, largest=largest)
    task = asyncio.create_task(group.run())
    try:
        yield group
    finally:
        assert not task.done()
        task.cancel()
        await asyncio.wait([task])


async def test_an_idle_ledger_commits_one_item_at_once(ledger: Ledger) -> None:
    async with running(ledger) as group:
        assert await group.submit(1) == "answer 1"

    assert ledger.batches == [[1]]


async def test_what_waits_while_a_batch_is_committed_goes_into_the_next_one(ledger: Ledger) -> None:
    async with running(ledger) as group:
        ledger.gate.clear()
        first = group.submit(0)
        await asyncio.sleep(0.01)
        later = [group.submit(item) for item in range(1, 6)]
        ledger.gate.set()
        await asyncio.gather(first, *later)

    assert ledger.batches == [[0], [1, 2, 3, 4, 5]]


async def test_one_batch_is_committed_at_a_time(ledger: Ledger) -> None:
    async with running(ledger, largest=3) as group:
        await asyncio.gather(*(group.submit(item) for item in range(30)))

    assert ledger.most_at_once == 1


async def test_no_batch_is_larger_than_the_largest_and_order_is_kept(ledger: Ledger) -> None:
    async with running(ledger, largest=4) as group:
        await asyncio.gather(*(group.submit(item) for item in range(10)))

    assert ledger.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


async def test_each_item_gets_its_own_answer(ledger: Ledger) -> None:
    async with running(ledger, largest=7) as group:
        answers = await asyncio.gather(*(group.submit(item) for item in range(100)))

    assert answers == [f"answer {item}" for item in range(100)]


async def test_items_of_many_tasks_are_committed_in_few_batches(ledger: Ledger) -> None:
    async def one(group: GroupCommit[int, str], item: int) -> None:
        for turn in range(5):
            await group.submit(item * 10 + turn)

    async with running(ledger) as group:
        await asyncio.gather(*(one(group, item) for item in range(50)))

    assert sorted(ledger.committed) == sorted(item * 10 + turn for item in range(50) for turn in range(5))
    assert len(ledger.batches) <= 10


async def test_a_poisoned_item_fails_alone(ledger: Ledger) -> None:
    ledger.poison = {5}
    async with running(ledger) as group:
        endings = await asyncio.gather(*(group.submit(item) for item in range(8)), return_exceptions=True)

    assert [str(ending) for ending in endings] == ["poison" if item == 5 else f"answer {item}" for item in range(8)]
    assert sorted(ledger.committed) == [0, 1, 2, 3, 4, 6, 7]


async def test_a_rejected_batch_is_halved_until_the_poison_stands_alone(ledger: Ledger) -> None:
    ledger.poison = {5}
    async with running(ledger) as group:
        await asyncio.gather(*(group.submit(item) for item in range(8)), return_exceptions=True)

    assert ledger.batches == [[0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 2, 3], [4, 5, 6, 7], [4, 5], [4], [5], [6, 7]]


async def test_a_batch_of_poison_alone_leaves_the_next_batch_to_go_on(ledger: Ledger) -> None:
    ledger.poison = {0, 1, 2}
    async with running(ledger) as group:
        await asyncio.gather(*(group.submit(item) for item in range(3)), return_exceptions=True)

        assert await group.submit(3) == "answer 3"


async def test_a_database_that_is_away_is_told_to_all_and_not_tried_by_halves(ledger: Ledger) -> None:
    ledger.poison, ledger.error = {1}, lambda: OperationalError("SELECT", {}, OSError("away"))
    async with running(ledger) as group:
        endings = await asyncio.gather(*(group.submit(item) for item in range(4)), return_exceptions=True)

    assert all(isinstance(ending, OperationalError) for ending in endings)
    assert ledger.batches == [[0, 1, 2, 3]]


async def test_a_waiter_that_is_cancelled_while_queued_does_not_lose_its_item(ledger: Ledger) -> None:
    async with running(ledger) as group:
        ledger.gate.clear()
        group.submit(0)
        await asyncio.sleep(0.01)
        left, stayed = group.submit(1), group.submit(2)
        left.cancel()
        ledger.gate.set()

        assert await stayed == "answer 2"

    assert ledger.committed == [0, 1, 2]


async def test_a_waiter_that_is_cancelled_while_its_batch_is_committed_does_not_lose_its_item(ledger: Ledger) -> None:
    async def wait(group: GroupCommit[int, str], item: int) -> str:
        return await group.submit(item)

    async with running(ledger) as group:
        ledger.gate.clear()
        leaving, staying = asyncio.create_task(wait(group, 1)), asyncio.create_task(wait(group, 2))
        await asyncio.sleep(0.01)
        leaving.cancel()
        await asyncio.wait([leaving])
        ledger.gate.set()

        assert await staying == "answer 2"

    assert ledger.committed == [1, 2]


async def test_a_waiter_that_left_is_no_trouble_when_its_item_is_poison(ledger: Ledger) -> None:
    ledger.poison = {1}
    async with running(ledger) as group:
        group.submit(1).cancel()

        assert await group.submit(2) == "answer 2"


async def test_an_error_that_nobody_fetches_makes_no_noise(ledger: Ledger) -> None:
    noise: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: noise.append(context))
    ledger.poison = {1}
    async with running(ledger) as group:
        group.submit(1)
        await group.drained()
        await group.submit(2)  # nobody holds on to the first batch any longer
        gc.collect()

    assert noise == []


async def test_nothing_is_drained_before_the_last_answer(ledger: Ledger) -> None:
    async with running(ledger, largest=2) as group:
        ledger.gate.clear()
        futures = [group.submit(item) for item in range(5)]
        drained = asyncio.create_task(group.drained())
        await asyncio.sleep(0.01)
        assert (drained.done(), group.open) == (False, 5)

        ledger.gate.set()
        await drained

        assert all(future.done() for future in futures)
        assert group.open == 0


async def test_an_idle_group_is_drained(ledger: Ledger) -> None:
    async with running(ledger) as group:
        await asyncio.wait_for(group.drained(), 1)
        await group.submit(1)
        await asyncio.wait_for(group.drained(), 1)


async def test_failed_and_cancelled_items_are_drained_too(ledger: Ledger) -> None:
    ledger.poison = {0, 1}
    async with running(ledger) as group:
        for item in range(4):
            group.submit(item).cancel()

        await asyncio.wait_for(group.drained(), 1)

    assert sorted(ledger.committed) == [2, 3]
