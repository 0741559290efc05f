"""Group commit: whatever waits while one batch is in the database goes into the next one.

There is no artificial delay: an idle ledger commits a single call at once, a busy one commits many together. Neither of
two troubles of one call ever stops the others:

    its data is rejected        the batch is halved until the offending items stand alone
    a lock of it is taken       the batch leaves the road: each of its lanes (a user's calls) goes on alone until it is through,
                                and takes what comes for it meanwhile
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from app.database import is_away, is_locked
from app.ledger.jitter import jittered

Item = TypeVar("Item")
Answer = TypeVar("Answer")

LANES_AT_ONCE = 3
"""Batches of lanes that are in the database at the same time, each on a connection of its own."""
LONGEST_LANE_PAUSE = 1.0
"""Seconds between two tries of a lane whose lock is taken."""


class GroupCommit(Generic[Item, Answer]):
    """`commit` takes a batch and returns an answer for each item, in order. It runs one batch at a time, apart from lanes.

    `lane_of`: what an item may have to wait for. `withdrawable`: an item whose future was cancelled while it waited is
    dropped."""

    def __init__(
        self,
        commit: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]],
        *,
        lane_of: Callable[[Item], str],
        withdrawable: bool = False,
        largest: int = 128,
    ) -> None:
        self._commit = commit
        self._lane_of = lane_of
        self._withdrawable = withdrawable
        self._largest = largest
        self._waiting: _Queue[Item, Answer] = deque()
        self._some_waiting = asyncio.Event()
        self._lanes: dict[str, _Queue[Item, Answer]] = {}
        self._lane_slots = asyncio.Semaphore(LANES_AT_ONCE)
        self._none_open = asyncio.Event()
        self._none_open.set()
        self._open = 0

    def submit(self, item: Item) -> asyncio.Future[Answer]:
        """Queues an item. Not a coroutine, so that it can be called where nothing may be awaited any more."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._open += 1
        self._none_open.clear()
        if self._lanes and (lane := self._lanes.get(self._lane_of(item))) is not None:
            lane.append((item, future))
        else:
            self._waiting.append((item, future))
            self._some_waiting.set()
        return future

    async def run(self) -> None:
        """Commits until cancelled."""
        async with asyncio.TaskGroup() as lanes:
            while True:
                await self._some_waiting.wait()
                batch = self._take(self._waiting)
                if not self._waiting:
                    self._some_waiting.clear()
                for lane in self._open_lanes(await self._commit_all(batch)):
                    lanes.create_task(self._run_lane(lane))

    async def drained(self) -> None:
        """Returns when all that was submitted has been answered."""
        await self._none_open.wait()

    @property
    def open(self) -> int:
        """Items that have no answer yet."""
        return self._open

    def _take(self, queue: "_Queue[Item, Answer]") -> "_Batch[Item, Answer]":
        batch = [queue.popleft() for _ in range(min(self._largest, len(queue)))]
        if not self._withdrawable:
            return batch
        staying = [(item, future) for item, future in batch if not future.cancelled()]
        self._close(len(batch) - len(staying))
        return staying

    def _open_lanes(self, stuck: "_Batch[Item, Answer]") -> list[str]:
        """Moves items to their lanes, and returns those that are new."""
        new = []
        for item, future in stuck:
            lane = self._lane_of(item)
            if lane not in self._lanes:
                self._lanes[lane] = deque()
                new.append(lane)
            self._lanes[lane].append((item, future))
        return new

    async def _run_lane(self, lane: str) -> None:
        queue = self._lanes[lane]
        pause = 0.02
        while queue:
            async with self._lane_slots:
                stuck = await self._commit_all(self._take(queue))
            if stuck:
                queue.extendleft(reversed(stuck))
                await asyncio.sleep(jittered(pause))
                pause = min(pause * 2, LONGEST_LANE_PAUSE)
        del self._lanes[lane]

    async def _commit_all(self, batch: "_Batch[Item, Answer]") -> "_Batch[Item, Answer]":
        """Answers a batch; what met a lock is returned."""
        if not batch:
            return []
        try:
            answers = await self._commit([item for item, _ in batch])
        except Exception as error:
            if is_locked(error):
                return batch
            if len(batch) > 1 and not is_away(error):
                half = len(batch) // 2
                return [*await self._commit_all(batch[:half]), *await self._commit_all(batch[half:])]
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
                    future.exception()  # marks it as seen: a caller that has left does not fetch it
        else:
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)
        self._close(len(batch))
        return []

    def _close(self, answered: int) -> None:
        self._open -= answered
        if not self._open:
            self._none_open.set()


_Batch = list[tuple[Item, asyncio.Future[Answer]]]
_Queue = deque[tuple[Item, asyncio.Future[Answer]]]
