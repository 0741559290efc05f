"""One request and its answer, as it comes. Whoever reads slowly slows the server down."""

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

from app.gateway.forwarding.http1.faults import Cut, HttpFault

MOST_UNREAD = 131_072
"""Bytes of a body that may have come and wait for their reader, beyond the piece that they came in."""
FINAL = 200
REFUSES = 300
"""From this status on, an answer wants no more of the request."""


class Carrier(Protocol):
    """The connection, as an exchange sees it."""

    is_full: bool

    def write(self, data: bytes) -> None: ...
    def sent_whole(self) -> None: ...
    def resume(self) -> None: ...
    def abandon(self) -> None: ...


class Exchange:
    """`status` 0: no head has come. `received`: bytes of the body. `unread`: of these, that nobody has taken yet. `is_whole`: the
    answer has come to its end. `deadline`: on the loop's clock."""

    __slots__ = ("_carrier", "_fault", "_pieces", "_waiter", "deadline", "headers", "is_whole", "received", "status", "unread")

    def __init__(self, carrier: Carrier, deadline: float) -> None:
        self.deadline = deadline
        self.status = 0
        self.headers: tuple[tuple[bytes, bytes], ...] = ()
        self.received = 0
        self.unread = 0
        self.is_whole = False
        self._carrier: Carrier | None = carrier
        self._pieces: list[bytes] = []
        self._fault: HttpFault | None = None
        self._waiter: asyncio.Future[None] | None = None

    # for who asked

    async def send(self, pieces: AsyncIterator[bytes]) -> None:
        """The request's body, as fast as it is taken, unless the server has refused it or gone."""
        async for piece in pieces:
            if self._is_over_early:
                return
            assert self._carrier is not None
            self._carrier.write(piece)
            while self._carrier is not None and self._carrier.is_full and not self._is_over_early:
                await self._change()
        if self._carrier is not None:
            self._carrier.sent_whole()

    @property
    def _is_over_early(self) -> bool:
        return self._carrier is None or self.status >= REFUSES

    async def answered(self) -> None:
        """Returns when the head has come. Raises `HttpFault`."""
        while not self.status:
            if self._fault is not None:
                raise self._fault
            await self._change()

    async def read(self) -> bytes:
        """All that has come of the body since the last time; empty: it is over. Raises `HttpFault`, after what came before it."""
        while not self._pieces:
            if self.is_whole:
                return b""
            if self._fault is not None:
                raise self._fault
            await self._change()
        pieces, self._pieces = self._pieces, []
        self.unread = 0
        if self._carrier is not None:
            self._carrier.resume()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """What is still to come is of no use: whoever waits for it gets `Cut`. Nothing where all has come."""
        if self._carrier is not None:
            self._pieces = []
            self._carrier.abandon()

    # for the connection

    def take(self, piece: bytes) -> None:
        self.received += len(piece)
        self.unread += len(piece)
        self._pieces.append(piece)

    def end(self, fault: HttpFault | None) -> None:
        """The connection has no more to do with it. None: the answer is whole."""
        self._carrier = None
        self._fault = fault
        self.is_whole = fault is None
        self.wake()

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _change(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None


def closed_here() -> Cut:
    return Cut("closed here")
