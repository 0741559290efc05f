"""Bodies that may be too large for the memory: they lie in a file until the call is over.

A file has no name, so that none is left behind, whatever ends the process. A small body never becomes one. What can't be
stored, as the disk is full or all uploads of the process together are too many, is `Unavailable`.
"""

import asyncio
import io
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ParamSpec, TypeVar

import structlog

from app.errors import Unavailable

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

log = structlog.get_logger(__name__)

Result = TypeVar("Result")
Given = ParamSpec("Given")

IN_MEMORY = 262_144
"""Bytes of a body that are kept in memory, or until they are written."""
PIECE = 262_144
"""Bytes that are read at once."""


MOST_EXAMINED = 2 * 1024 * 1024
"""Bytes of a part that may be read while it is examined: what isn't found by then would take the processor from the calls."""


class UploadSpace:
    """Where the uploads of a process lie. `most`: bytes of all of them together."""

    def __init__(self, directory: Path, *, most: int) -> None:
        self._directory = directory
        self._most = most
        self._taken = 0
        self.threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="uploads")

    def take(self, size: int) -> None:
        if self._taken + size > self._most:
            raise _no_room()
        self._taken += size

    def free(self, size: int) -> None:
        self._taken -= size

    def file(self) -> BinaryIO:
        self._directory.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryFile(buffering=0, dir=self._directory)


class Upload:
    """One body: written from its start to its end, then `finish`ed, then read. `close` must be called once."""

    def __init__(self, space: UploadSpace) -> None:
        self.size = 0
        self._space = space
        self._memory = bytearray()
        self._file: BinaryIO | None = None
        self._stored = 0
        self._work: Future[Any] | None = None

    async def write(self, chunk: bytes) -> None:
        self._memory += chunk
        self.size += len(chunk)
        if len(self._memory) >= IN_MEMORY:
            await self._store()

    async def finish(self) -> None:
        if self._file is not None:
            await self._store()

    async def pieces(self, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes from `start` up to `end`."""
        while start < end:
            piece = await self.read(start, min(PIECE, end - start))
            yield piece
            start += len(piece)

    async def read(self, start: int, size: int) -> bytes:
        return self.look(start, size) if self._file is None else await self._run(self.look, start, size)

    def look(self, start: int, size: int) -> bytes:
        """At once, in this thread. Raises `EOFError` for what isn't there."""
        found = bytes(self._memory[start : start + size]) if self._file is None else os.pread(self._file.fileno(), size, start)
        if not found and size:
            raise EOFError
        return found

    async def examine(self, start: int, size: int, examine: Callable[[BinaryIO], Result]) -> Result:
        """What `examine` makes of a part of the body as a file, in a thread. Where it reads too much, that raises `OSError`."""
        part = io.BufferedReader(_Part(self, start, size), buffer_size=65_536)
        return await self._run(examine, part)

    def close(self) -> None:
        """The file is closed once no thread is at work on it: its number may belong to another at once."""
        self._memory.clear()
        self._space.free(self._stored)
        self._stored = 0
        if self._work is not None:
            self._work.add_done_callback(self._close_file)

    def _close_file(self, _: Future[Any]) -> None:
        if self._file is not None:
            self._file.close()

    async def _store(self) -> None:
        waiting = bytes(self._memory)
        self._memory.clear()
        self._space.take(len(waiting))
        self._stored += len(waiting)
        try:
            await self._run(self._write, waiting)
        except OSError as failed:
            log.error("an upload can't be stored", reason=failed.strerror)
            raise _no_room() from failed

    def _write(self, data: bytes) -> None:
        if self._file is None:
            self._file = self._space.file()
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]

    async def _run(self, work: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs) -> Result:
        doing = self._space.threads.submit(work, *args, **kwargs)
        self._work = doing
        return await asyncio.wrap_future(doing)


class _Part(io.RawIOBase):
    """A part of an upload, as a file of its own."""

    def __init__(self, upload: Upload, start: int, size: int) -> None:
        self._upload = upload
        self._start = start
        self._size = size
        self._at = 0
        self._read = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: "WriteableBuffer") -> int:
        into = memoryview(buffer).cast("B")
        size = min(len(into), self._size - self._at)
        if size <= 0:
            return 0
        self._read += size
        if self._read > MOST_EXAMINED:
            raise OSError("enough has been read of this")
        found = self._upload.look(self._start + self._at, size)
        into[: len(found)] = found
        self._at += len(found)
        return len(found)


def _no_room() -> Unavailable:
    return Unavailable("There is no room for this upload at the moment. Try again shortly.", code="no_room_for_upload")
