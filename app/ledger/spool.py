"""The spool: outcomes of calls that the database can't take now, durable on the local disk before the last byte leaves.

This process settles them from memory when the database is back and says so; a segment is removed when all of its records
are settled. When this process dies, another one finds its segments (`abandoned`) and replays them. A request may be in
them more than once: settling is idempotent by `request_id`.

Records are written a batch at a time (`spool_writer`): what waits meanwhile shares the next write and the next sync. If a
batch can't be written, those who wait are told (`SpoolFailed`) and admission closes, until an append or a probe succeeds.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import UUID

import structlog

from app.ledger.outcome import arrived_at
from app.ledger.segment import LARGEST_RECORD, SUFFIX, AbandonedSegment, Segment, UnknownFormatError
from app.ledger.spool_writer import SEGMENT_BYTES, SpoolWriter

__all__ = ["AbandonedSegment", "Spool", "SpoolFailed"]

log = structlog.get_logger(__name__)

PROBE_EVERY = 1.0
"""Seconds between two tries while the disk fails."""


class SpoolFailed(Exception):
    """The record could not be made durable; the message says why."""


@dataclass(eq=False, slots=True)
class _Waiting:
    """`durable` is never cancelled: it is done early only if the row came first."""

    request_id: UUID
    record: bytes
    durable: asyncio.Future[None]


class Spool:
    """`largest`: bytes of all segments of this process; from there on it is full, which closes admission but refuses no append."""

    def __init__(self, directory: Path, *, largest: int) -> None:
        self._directory = directory
        self._largest = largest
        self._queue: deque[_Waiting] = deque()
        self._pending: dict[UUID, _Waiting] = {}
        self._where: dict[UUID, Segment] = {}
        self._bytes = 0
        self._closed = False
        self._work = asyncio.Event()
        self._writer = SpoolWriter(directory, changed=self._count)
        self._left: set[Path] = set()

    async def run(self) -> None:
        """Writes until cancelled. Tries the disk at once, so that a spool that can't be written is known before it is needed."""
        await self._writer.probe()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(PROBE_EVERY if self._writer.failing else None):
                    await self._work.wait()
            self._work.clear()
            await self._turn()

    async def append(self, request_id: UUID, record: bytes) -> None:
        """Returns when the record is durable, here or as a row; raises `SpoolFailed`. It is written also if the caller is
        cancelled. Not for a call that was `settled` before: its record would stay until the next start."""
        if request_id in self._where:
            return
        if self._closed:
            raise SpoolFailed("the spool is closed")
        if len(record) > LARGEST_RECORD:
            raise SpoolFailed(f"a record of {len(record)} bytes is too large for the spool")
        if (waiting := self._pending.get(request_id)) is None:
            waiting = _Waiting(request_id, record, asyncio.get_running_loop().create_future())
            self._pending[request_id] = waiting
            self._queue.append(waiting)
            self._work.set()
        await asyncio.shield(waiting.durable)

    def settled(self, request_ids: Iterable[UUID]) -> None:
        """Their rows are in the database. Costs next to nothing for calls that were never spooled."""
        if not self._where and not self._pending:
            return
        for request_id in request_ids:
            if (segment := self._where.pop(request_id, None)) is not None:
                segment.unsettled -= 1
                if not segment.unsettled:
                    self._work.set()
            elif (waiting := self._pending.pop(request_id, None)) is not None:
                waiting.durable.set_result(None)

    @property
    def accepting(self) -> bool:
        return self._writer.failing is None and not self._full

    @property
    def trouble(self) -> str | None:
        """Why it is not accepting, in one line for people."""
        if self._writer.failing is None and self._full:
            return f"the spool in {self._directory} is full ({self._bytes} of {self._largest} bytes): it empties when the database is back"
        return self._writer.failing

    @property
    def size(self) -> int:
        """Bytes of all segments of this process."""
        return self._bytes

    @property
    def largest(self) -> int:
        return self._largest

    @property
    def records(self) -> int:
        """Calls that are in it or on their way, and in no row yet."""
        return len(self._where) + len(self._pending)

    @property
    def oldest(self) -> float | None:
        """Seconds since 1970 at which the first of them arrived."""
        first = next(iter(self._where), None) or next(iter(self._pending), None)
        return None if first is None else arrived_at(first)

    def abandoned(self) -> list[AbandonedSegment]:
        """Segments that no living process owns, oldest first; now locked, so that no other process takes them. Blocks."""
        found, left = [], set()
        for path in sorted(self._directory.glob(f"*{SUFFIX}")):
            try:
                segment = AbandonedSegment.take(path)
            except (UnknownFormatError, OSError) as error:
                left.add(path)
                if path not in self._left:
                    log.error(
                        "a segment of the spool is left alone: start the version that wrote it, or make it readable, so that its calls "
                        "are billed",
                        path=str(path),
                        error=str(error),
                    )
                continue
            if segment is not None:
                found.append(segment)
        self._left = left
        return found

    @property
    def left_alone(self) -> int:
        """Segments that `abandoned` could not take when it was last called: of another version, or not readable."""
        return len(self._left)

    async def close(self) -> None:
        """After `run` was cancelled. Writes what still waits; what is unsettled stays for the next process."""
        self._closed = True
        await self._turn()
        while self._queue:
            await self._turn()
        self._writer.close()

    @property
    def _full(self) -> bool:
        return self._bytes >= self._largest

    async def _turn(self) -> None:
        if batch := self._next_batch():
            await self._writer.store([waiting.record for waiting in batch], stored=partial(self._stored, batch))
        elif self._writer.failing:
            await self._writer.probe()
        await self._writer.remove_settled(but_current=bool(self._queue))

    def _next_batch(self) -> list[_Waiting]:
        batch, size = [], 0
        while self._queue and size < SEGMENT_BYTES:
            waiting = self._queue.popleft()
            if not waiting.durable.done():
                batch.append(waiting)
                size += len(waiting.record)
        if self._queue:
            self._work.set()
        return batch

    def _stored(self, batch: Sequence[_Waiting], segment: Segment | None) -> None:
        for waiting in batch:
            if waiting.durable.done():
                continue
            del self._pending[waiting.request_id]
            if segment is not None:
                self._where[waiting.request_id] = segment
                segment.unsettled += 1
                waiting.durable.set_result(None)
            else:
                waiting.durable.set_exception(SpoolFailed(self._writer.failing))
                waiting.durable.exception()  # marks it as seen: a caller that has left does not fetch it

    def _count(self) -> None:
        was_full = self._full
        self._bytes = self._writer.size
        if self._full and not was_full:
            log.error("no new calls are taken until the spool has room: bring the database back", reason=self.trouble)
        elif was_full and not self._full:
            log.warning("the spool has room again", directory=str(self._directory))
