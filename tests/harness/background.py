"""One event loop in a thread, so that fixtures and synchronous tests can use what is asynchronous, in plain calls."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Background:
    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tests-background", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], *, within: float = 60.0) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(within)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
