"""The spool's writer: the segments of this process, and the thread that touches the disk for them.

What a segment could not take is written again to a new one, never to the same. If that fails too, the writer is `failing`,
until it has written something again, be it a probe.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from app.ledger.segment import Segment, framed

log = structlog.get_logger(__name__)

SEGMENT_BYTES = 8 << 20
"""From this size on a segment is not written to, so that it can go while others fill."""

_PROBE = b"\xff" * (16 << 10)
"""The room of a few records. It is no record itself: if it is left behind, it reads as a torn tail."""

T = TypeVar("T")


class SpoolWriter:
    """`failing`: why the last try to write failed, in one line for people. `changed` is called after each turn of the thread,
    when `size` and `failing` may have changed.

    One turn at a time: who calls awaits it. Who is cancelled meanwhile leaves only when the turn is over.
    """

    def __init__(self, directory: Path, *, changed: Callable[[], None]) -> None:
        self.failing: str | None = None
        self._directory = directory
        self._changed = changed
        self._segments: list[Segment] = []
        self._current: Segment | None = None
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="spool")

    @property
    def size(self) -> int:
        """Bytes of all segments."""
        return sum(segment.size for segment in self._segments)

    async def store(self, records: Sequence[bytes], *, stored: Callable[[Segment | None], None]) -> None:
        """`stored` is told where all of them are now durable, or None: then `failing` says why they are not. It is told also
        if the caller is cancelled."""

        def conclude(future: asyncio.Future[Segment]) -> None:
            error = future.exception()
            self._judge(error)
            stored(future.result() if error is None else None)

        await self._on_disk(partial(self._store, records), conclude)

    async def probe(self) -> None:
        """Tries whether the disk can be written."""
        await self._on_disk(self._try_disk, lambda future: self._judge(future.exception()))

    async def remove_settled(self, *, but_current: bool) -> None:
        """Removes the segments without unsettled records. `but_current`: not the one that the next records go to."""
        done = [segment for segment in self._segments if not segment.unsettled and not (segment is self._current and but_current)]
        if not done:
            return
        if self._current in done:
            self._current = None
        self._segments = [segment for segment in self._segments if segment not in done]
        await self._on_disk(partial(_remove, done), lambda _: self._changed())

    def close(self) -> None:
        """Leaves the segments to the next process."""
        for segment in self._segments:
            segment.release()
        self._segments = []
        self.failing = "the spool is closed"
        self._disk.shutdown()

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

    def _judge(self, error: BaseException | None) -> None:
        """After each try to write."""
        failed = self.failing is not None
        if error is not None:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else repr(error)
            self.failing = f"the spool in {self._directory} cannot be written ({reason})"
            if not failed:
                log.error("no new calls are taken until the spool can be written: free space there, or mend the disk", reason=self.failing)
        else:
            self.failing = None
            if failed:
                log.warning("the spool can be written again", directory=str(self._directory))
        self._changed()

    # What follows runs in the thread.

    def _store(self, records: Sequence[bytes]) -> Segment:
        data = b"".join(framed(record) for record in records)
        try:
            return self._write(data)
        except OSError as error:
            if not self.failing:
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
