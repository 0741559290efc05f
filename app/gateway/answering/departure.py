"""What becomes of a call whose client leaves before its answer has ended.

A stream is cancelled upstream at once, and bills what was delivered. Where the upstream bills it regardless (`client_gone`
is `drain`) it is read on without a client, for `DRAIN_WAIT` at most, and bills what its end says; only `DRAIN_MOST` are
at a time in a process, and what is beyond that is cancelled. Any other answer is read to its end: it is paid for whole.
"""

import asyncio
from collections.abc import Awaitable, Callable

from app.gateway.forwarding.transport import UpstreamAnswer
from app.gateway.receiving.client import Client, ClientGone
from app.runtime.tasks import OwnedTasks


class Drains:
    """The streams of a process that are read on without a client. `wait`: seconds for each."""

    def __init__(self, *, wait: float, most: int) -> None:
        self.wait = wait
        self._most = most
        self._under_way = 0

    def begin(self) -> bool:
        """False where there are as many as there may be."""
        if self._under_way >= self._most:
            return False
        self._under_way += 1
        return True

    def end(self) -> None:
        self._under_way -= 1


class Departure:
    """One call's. `gone`: the watched client has left; `cancelled`: the upstream was, too."""

    __slots__ = ("_client", "_deadline", "_drains", "_is_draining", "_is_watched", "_may_drain", "_stop", "_watch", "cancelled", "gone")

    def __init__(self, client: Client, drains: Drains, *, may_drain: Callable[[], bool]) -> None:
        self.gone = False
        self.cancelled = False
        self._client = client
        self._drains = drains
        self._may_drain = may_drain
        self._is_draining = False
        self._is_watched = False
        self._watch: asyncio.Task[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._stop: Callable[[], None] = _nothing

    def watch(self, tasks: OwnedTasks) -> None:
        """For streams. A client that leaves before any other answer is found missing at its end, which costs no task."""
        self._is_watched = True
        self._watch = tasks.spawn(self._client.when_gone(self._leave), name="client watch")

    async def forwarding(self, answering: Awaitable[UpstreamAnswer]) -> UpstreamAnswer:
        """The answer. Raises `ClientGone` where the call was cancelled before one began."""
        if not self._is_watched:
            return await answering
        limit = asyncio.timeout(None)
        try:
            async with limit:
                self._stop = lambda: limit.reschedule(asyncio.get_running_loop().time())
                answer = await answering
        except TimeoutError:
            if not limit.expired():
                raise
            raise ClientGone from None
        self._stop = answer.close if answer.is_stream else _nothing
        return answer

    def is_known(self) -> bool:
        """Whether the client has left, while the answer is still to come."""
        return self.gone if self._is_watched else self._client.is_gone()

    def has_happened(self) -> bool:
        """To be asked when the answer has ended: from then on nothing is cancelled."""
        self.end()
        return self.is_known()

    def end(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        if self._deadline is not None:
            self._deadline.cancel()
        if self._is_draining:
            self._is_draining = False
            self._drains.end()

    def _leave(self) -> None:
        self.gone = True
        if self._may_drain() and self._drains.begin():
            self._is_draining = True
            self._deadline = asyncio.get_running_loop().call_later(self._drains.wait, self._cancel)
        else:
            self._cancel()

    def _cancel(self) -> None:
        self.cancelled = True
        self._stop()


def _nothing() -> None:
    pass
