"""The spool: outcomes of calls that the database can't take now, durable on the local disk before the last byte leaves.

This process settles them from memory when the database is back and says so; a segment is removed when all of its records
are settled. When this process dies, another one finds its segments (`abandoned`) and replays them. A request may be in
them more than once: settling is idempotent by `request_id`.

One thread does all that touches the disk, a batch at a time: what waits meanwhile shares the next write and the next
sync. What a segment could not take is written again to a new one, never to the same. If that fails too, those who wait
are told (`SpoolFailed`) and admission closes, until an append or a probe succeeds.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import structlog

from app.ledger.segment import LARGEST_RECORD, SUFFIX, AbandonedSegment, Segment, UnknownFormatError, framed

__all__ = ["AbandonedSegment", "Spool", "SpoolFailed"]

log = structlog.get_logger(__name__)

SEGMENT_BYTES = 8 << 20
"""From this size on a segment is not written to, so that it can go while others fill."""

PROBE_EVERY = 1.0
"""Seconds between two tries while the disk fails."""

_PROBE = b"\xff" * (16 << 10)
"""The room of a few records. It is no record itself: if it is left behind, it reads as a torn tail."""

T = TypeVar("T")


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
        self._segments: list[Segment] = []
        self._current: Segment | None = None
        self._bytes = 0
        self._failing: str | None = None
        self._closed = False
        self._work = asyncio.Event()
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._reported: set[Path] = set()

    async def run(self) -> None:
        """Writes until cancelled. Tries the disk at once, so that a spool that can't be written is known before it is needed."""
        await self._probe()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(PROBE_EVERY if self._failing else None):
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
        return self._failing is None and not self._full

    @property
    def trouble(self) -> str | None:
        """Why it is not accepting, in one line for people."""
        if self._failing is None and self._full:
            return f"the spool in {self._directory} is full ({self._bytes} of {self._largest} bytes): it empties when the database is back"
        return self._failing

    @property
    def records(self) -> int:
        """Durable and unsettled."""
        return len(self._where)

    def abandoned(self) -> list[AbandonedSegment]:
        """Segments that no living process owns, oldest first; now locked, so that no other process takes them. Blocks."""
        found = []
        for path in sorted(self._directory.glob(f"*{SUFFIX}")):
            try:
                segment = AbandonedSegment.take(path)
            except (UnknownFormatError, OSError) as error:
                if path not in self._reported:
                    self._reported.add(path)
                    log.error(
                        "a segment of the spool is left alone: start the version that wrote it, or make it readable, so that its calls "
                        "are billed",
                        path=str(path),
                        error=str(error),
                    )
                continue
            if segment is not None:
                found.append(segment)
        return found

    async def close(self) -> None:
        """After `run` was cancelled. Writes what still waits; what is unsettled stays for the next process."""
        self._closed = True
        await self._turn()
        while self._queue:
            await self._turn()
        for segment in self._segments:
            segment.release()
        self._segments = []
        self._failing = "the spool is closed"
        self._disk.shutdown()

    @property
    def _full(self) -> bool:
        return self._bytes >= self._largest

    async def _turn(self) -> None:
        if batch := self._next_batch():
            await self._on_disk(partial(self._store, [waiting.record for waiting in batch]), partial(self._stored, batch))
        elif self._failing:
            await self._probe()
        done = [segment for segment in self._segments if not segment.unsettled and not (segment is self._current and self._queue)]
        if done:
            if self._current in done:
                self._current = None
            self._segments = [segment for segment in self._segments if segment not in done]
            await self._on_disk(partial(_remove, done), lambda _: self._count())

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

    async def _probe(self) -> None:
        await self._on_disk(self._try_disk, lambda future: self._judge(future.exception()))

    async def _on_disk(self, work: Callable[[], T], conclude: Callable[[asyncio.Future[T]], None]) -> None:
        """`conclude` gets the finished future. Who is cancelled waits for the thread all the same: no descriptor may be closed
        while it is written to, and those who wait for the batch must hear of it."""
        future = asyncio.get_running_loop().run_in_executor(self._disk, work)
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            while not future.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([future])
            raise
        finally:
            conclude(future)

    def _stored(self, batch: Sequence[_Waiting], future: asyncio.Future[Segment]) -> None:
        error = future.exception()
        self._judge(error)
        for waiting in batch:
            if waiting.durable.done():
                continue
            del self._pending[waiting.request_id]
            if error is None:
                self._where[waiting.request_id] = segment = future.result()
                segment.unsettled += 1
                waiting.durable.set_result(None)
            else:
                waiting.durable.set_exception(SpoolFailed(self._failing))
                waiting.durable.exception()  # marks it as seen: a caller that has left does not fetch it

    def _judge(self, error: BaseException | None) -> None:
        """After each try to write."""
        failed = self._failing is not None
        if error is not None:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else repr(error)
            self._failing = f"the spool in {self._directory} cannot be written ({reason})"
            if not failed:
                log.error("no new calls are taken until the spool can be written: free space there, or mend the disk", reason=self._failing)
        else:
            self._failing = None
            if failed:
                log.warning("the spool can be written again", directory=str(self._directory))
        self._count()

    def _count(self) -> None:
        was_full = self._full
        self._bytes = sum(segment.size for segment in self._segments)
        if self._full and not was_full:
            log.error("no new calls are taken until the spool has room: bring the database back", reason=self.trouble)
        elif was_full and not self._full:
            log.warning("the spool has room again", directory=str(self._directory))

    # What follows runs in the thread.

    def _store(self, records: Sequence[bytes]) -> Segment:
        data = b"".join(framed(record) for record in records)
        try:
            return self._write(data)
        except OSError as error:
            if not self._failing:
                log.warning("a segment of the spool failed: its last records are written again elsewhere; check the disk", error=str(error))
            return self._write(data)

    def _write(self, data: bytes) -> Segment:
        segment, self._current = self._current, None
        if segment is None or segment.size >= SEGMENT_BYTES:
            segment = Segment.create(self._directory)
            self._segments.append(segment)
        segment.write(data)
        self._current = segment
        return segment

    def _try_disk(self) -> None:
        segment = Segment.create(self._directory)
        try:
            segment.write(_PROBE)
        finally:
            segment.remove()


def _remove(segments: Sequence[Segment]) -> None:
    for segment in segments:
        try:
            segment.remove()
        except OSError as error:
            log.warning("a segment of the spool that is done with could not be removed", path=str(segment.path), error=str(error))
