"""Background tasks that the process owns, so that none is forgotten at shutdown.

A task that raises is logged and ends alone, without the others. An essential one, without which nothing could be promised,
ends the process when it ends: calls in flight finish, and what is unsettled goes to the spool.
"""

import asyncio
import signal
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

import structlog

log = structlog.get_logger(__name__)

CANCEL_WAIT = 1.0
"""Seconds in which a cancelled task ends. One that doesn't, as its clean-up waits for a server that is silent, is cancelled
again, which ends the clean-up."""
CANCELS = 3


class OwnedTasks:
    """Leaving the block cancels what still runs, and waits for it, for `CANCELS * CANCEL_WAIT` seconds at most."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for _ in range(CANCELS):
            if not self._running:
                return
            for task in self._running:
                task.cancel()
            await asyncio.wait(set(self._running), timeout=CANCEL_WAIT)
        if self._running:
            log.warning("background tasks did not end", tasks=sorted(task.get_name() for task in self._running))

    def spawn(self, work: Coroutine[Any, Any, None], *, name: str, essential: bool = False) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(self._guarded(work, name, essential), name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def _guarded(self, work: Coroutine[Any, Any, None], name: str, essential: bool) -> None:
        try:
            await work
        except Exception:
            log.exception("background task failed", task=name)
        if essential:
            log.critical("this process ends: an essential task of it has", task=name)
            signal.raise_signal(signal.SIGTERM)
