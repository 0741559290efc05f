"""`billing-proxy`, that kills itself at a named point of a call, the `DIE_AFTER`th time that the point is reached.

Run as `python -m tests.harness.dying_proxy serve`; see `tests.harness.dying`. SIGKILL leaves no time for anything: no
`finally` runs, and nothing that is buffered in the process is written. Where a client is to have had what was sent before,
the event loop gets a moment to write it. Workers are armed too, each for itself.
"""

import asyncio
import functools
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any
from uuid import UUID

import app.gateway.forwarding.failover
from app.cli.main import main
from app.database import Database, Written
from app.gateway.answering.settle import Settling
from app.gateway.forwarding.transport import UpstreamAnswer
from app.gateway.receiving.client import Client
from app.ledger.segment import AbandonedSegment
from app.ledger.spool import Spool

FLUSH = 0.02
"""Seconds in which the loop writes what was sent."""


class Fuse:
    def __init__(self, after: int) -> None:
        self._left = after

    def hit(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    async def hit_when_written(self) -> None:
        await asyncio.sleep(FLUSH)
        self.hit()


def before(owner: Any, name: str) -> Callable[[Fuse], None]:
    """As the function is called."""

    def arm(fuse: Fuse) -> None:
        original = getattr(owner, name)

        @functools.wraps(original)
        def wrapped(*arguments: Any, **named: Any) -> Any:
            fuse.hit()
            return original(*arguments, **named)

        setattr(owner, name, wrapped)

    return arm


def after(owner: Any, name: str) -> Callable[[Fuse], None]:
    """When the function has done its work, before its caller goes on."""

    def arm(fuse: Fuse) -> None:
        original = getattr(owner, name)

        @functools.wraps(original)
        def wrapped(*arguments: Any, **named: Any) -> Any:
            result = original(*arguments, **named)
            fuse.hit()
            return result

        @functools.wraps(original)
        async def awaited(*arguments: Any, **named: Any) -> Any:
            result = await original(*arguments, **named)
            fuse.hit()
            return result

        setattr(owner, name, awaited if asyncio.iscoroutinefunction(original) else wrapped)

    return arm


def statement(moment: str, containing: str) -> Callable[[Fuse], None]:
    """Before a statement is sent, or after its answer has come, and so, as each is a transaction in itself, its commit."""

    def arm(fuse: Fuse) -> None:
        def around(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
            async def run(self: Database, statement: Written, values: Mapping[str, Any]) -> Any:
                is_the_one = containing in statement.sql
                if is_the_one and moment == "before":
                    fuse.hit()
                answer = await original(self, statement, values)
                if is_the_one and moment == "after":
                    fuse.hit()
                return answer

            return run

        for name in ("rows", "count"):
            setattr(Database, name, around(getattr(Database, name)))

    return arm


def when_sent(*, last: bool) -> Callable[[Fuse], None]:
    """When a call's first piece, or its last, is on its way to the client."""

    def arm(fuse: Fuse) -> None:
        original = Client.send
        begun: set[UUID] = set()

        async def send(self: Client, data: bytes, *, more: bool = True) -> None:
            await original(self, data, more=more)
            is_first = bool(data) and self.request_id not in begun
            is_last = not more
            is_the_one = is_last if last else is_first
            if is_the_one:
                begun.add(self.request_id)
                await fuse.hit_when_written()

        Client.send = send  # type: ignore[method-assign]

    return arm


def mid_answer(fuse: Fuse) -> None:
    """When the upstream's second piece has come and the first is on its way to the client. An answer that comes in one
    piece is cut in two: after its first event, or in the middle."""
    original = UpstreamAnswer.chunks
    pieces: Counter[UpstreamAnswer] = Counter()

    async def chunks(self: UpstreamAnswer) -> AsyncIterator[bytes]:
        async for chunk in original(self):
            end = chunk.find(b"\n\n") + 2
            cut = end if end > 1 else len(chunk) // 2
            for piece in (chunk,) if pieces[self] else filter(None, (chunk[:cut], chunk[cut:])):
                pieces[self] += 1
                if pieces[self] == 2:
                    await fuse.hit_when_written()
                yield piece

    UpstreamAnswer.chunks = chunks  # type: ignore[method-assign]


ARM: dict[str, Callable[[Fuse], None]] = {
    "before_reserve_sent": statement("before", "aigcspace.reserve("),
    "after_reserve_committed": statement("after", "aigcspace.reserve("),
    "before_forward": before(app.gateway.forwarding.failover, "forward"),
    "after_upstream_headers": after(app.gateway.forwarding.failover, "forward"),
    "after_first_chunk_to_client": when_sent(last=False),
    "mid_stream": mid_answer,
    "before_submit": before(Settling, "submit"),
    "after_submit": after(Settling, "submit"),
    "before_settle_sent": statement("before", "aigcspace.settle("),
    "after_settle_committed": statement("after", "aigcspace.settle("),
    "before_last_byte": after(Settling, "secured"),
    "after_last_byte": when_sent(last=True),
    # while the database is away, and when it is back
    "before_spooled": before(Spool, "append"),
    "after_spooled": after(Spool, "append"),
    "before_segment_removed": before(AbandonedSegment, "remove"),
    "after_segment_removed": after(AbandonedSegment, "remove"),
}

if __name__ in ("__main__", "__mp_main__"):
    ARM[os.environ["DIE_AT"]](Fuse(int(os.environ["DIE_AFTER"])))
if __name__ == "__main__":
    main()
