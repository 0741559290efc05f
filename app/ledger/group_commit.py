"""Group commit: whatever waits while one batch is in the database goes into the next one.

There is no artificial delay: an idle ledger commits a single call at once, a busy one commits many together. A batch
that the database rejects for its data is halved until the offending items stand alone, so that one poisoned call never
stops the others.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from app.database import is_away

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class GroupCommit(Generic[Item, Answer]):
    """`commit` takes a batch and returns an answer for each item, in order. It runs one batch at a time."""

    def __init__(self, commit: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]], *, largest: int = 128) -> None:
        self._commit = commit
        self._largest = largest
        self._waiting: deque[tuple[Item, asyncio.Future[Answer]]] = deque()
        self._some_waiting = asyncio.Event()
        self._none_open = asyncio.Event()
        self._none_open.set()
        self._open = 0

    def submit(self, item: Item) -> asyncio.Future[Answer]:
        """Queues an item. Not a coroutine, so that it can be called where nothing may be awaited any more."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        self._open += 1
        self._none_open.clear()
        self._some_waiting.set()
        return future

    async def run(self) -> None:
        """Commits until cancelled."""
        while True:
            await self._some_waiting.wait()
            batch = [self._waiting.popleft() for _ in range(min(self._largest, len(self._waiting)))]
            if not self._waiting:
                self._some_waiting.clear()
            await self._commit_all(batch)
            self._open -= len(batch)
            if not self._open:
                self._none_open.set()

    async def drained(self) -> None:
        """Returns when all that was submitted has been answered."""
        await self._none_open.wait()

    @property
    def open(self) -> int:
        """Items that have no answer yet."""
        return self._open

    async def _commit_all(self, batch: list[tuple[Item, asyncio.Future[Answer]]]) -> None:
        try:
            answers = await self._commit([item for item, _ in batch])
        except Exception as error:
            if len(batch) > 1 and not is_away(error):
                half = len(batch) // 2
                await self._commit_all(batch[:half])
                await self._commit_all(batch[half:])
                return
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
                    future.exception()  # marks it as seen: a caller that has left does not fetch it
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)
