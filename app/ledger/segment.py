"""Segments: the append-only files of the spool, and how they are read when their process has died.

    segment = magic (7 bytes), format version (1 byte), records
    record  = length (u32), CRC-32 (u32), record version (1 byte), payload; big-endian; both numbers are of version and payload

Who writes a segment holds its `flock`, which the kernel drops with the process: a segment whose lock is free is abandoned.
Locks belong to an open file, so they also tell two spools of one process apart. Everything here blocks and raises `OSError`.
"""

import errno
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from typing import Self
from zlib import crc32

import structlog
from uuid_utils.compat import uuid7

log = structlog.get_logger(__name__)

SUFFIX = ".spool"
OPENING = b"\x89spool\n\x01"
"""Magic and format version."""

LARGEST_RECORD = (1 << 24) - 2
"""Bytes of a payload. So the first byte of each record is zero, which JSON has nowhere: `_next_whole` finds records by it."""

_HEADER = Struct(">II")
_VERSION = b"\x01"
_MAY_BEGIN = re.compile(rb"\x00(?=.{7}" + _VERSION + rb")", re.DOTALL)


def framed(payload: bytes) -> bytes:
    body = _VERSION + payload
    return _HEADER.pack(len(body), crc32(body)) + body


class Segment:
    """One that this process writes. `unsettled` is the spool's count; `size` is in bytes, what a failed write was to add included."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.size = 0
        self.unsettled = 0
        self._descriptor = descriptor

    @classmethod
    def create(cls, directory: Path) -> Self:
        """A new file, locked, and in the directory for good. Makes the directory too."""
        if not directory.is_dir():
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _sync_directory(directory.parent)
        while True:
            path = directory / f"{uuid7()}{SUFFIX}"
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                # another process may have found it before it was locked: then it is theirs, and they will remove it
                ours = _lock(descriptor, path)
                if ours:
                    _sync_directory(directory)
            except OSError:
                path.unlink(missing_ok=True)
                os.close(descriptor)
                raise
            if ours:
                return cls(path, descriptor)
            os.close(descriptor)

    def write(self, data: bytes) -> None:
        """Returns when it is durable. Once this has raised, the segment must not be written to again: half a record may be
        its end, and after a failed sync the kernel may have dropped what it did not write, so that the next would "succeed"."""
        if not self.size:
            data = OPENING + data
        self.size += len(data)
        if os.write(self._descriptor, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fdatasync(self._descriptor)

    def remove(self) -> None:
        """If the machine dies now, it may come back: its records are then settled once more, which changes nothing."""
        try:
            self.path.unlink(missing_ok=True)
        finally:
            self.release()

    def release(self) -> None:
        os.close(self._descriptor)


class UnknownFormatError(Exception):
    """The file is of another version, or no segment at all."""


class AbandonedSegment:
    """One whose process has died, locked by this one until it is removed or released.

    After `read()`: `damaged` records could not be read, and `torn` says that the end was cut short. What was cut off
    was never acknowledged; what is damaged was.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.damaged = 0
        self.torn = False
        self._descriptor = descriptor
        self._was_read = False

    @classmethod
    def take(cls, path: Path) -> Self | None:
        """None if it is a living process's, or gone. Raises `UnknownFormatError`."""
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        taken = None
        try:
            if _lock(descriptor, path):
                opening = os.pread(descriptor, len(OPENING), 0)
                if not OPENING.startswith(opening) and opening.strip(b"\0"):
                    raise UnknownFormatError(f"begins with {opening.hex()}")
                taken = cls(path, descriptor)
        finally:
            if taken is None:
                os.close(descriptor)
        return taken

    def read(self) -> Iterator[bytes]:
        """The payloads, in the order in which they were written; a request may be there twice."""
        data = self.path.read_bytes()
        self.damaged, self.torn = 0, bool(data) and not data.startswith(OPENING)
        position: int | None = len(OPENING)
        while position is not None and position < len(data):
            if (body := _body(data, position)) is None:
                resumed = _next_whole(data, position + 1)
                self.damaged += _lost(data, position, resumed)
                self.torn = self.torn or resumed is None
                position = resumed
                continue
            position += _HEADER.size + len(body)
            if body.startswith(_VERSION):
                yield body[len(_VERSION) :]
            else:
                self.damaged += 1
        self._was_read = True
        if self.torn:
            log.info("a segment of the spool ends in half a record, as when its process died while it wrote", segment=self.path.name)

    def remove(self) -> None:
        """When all its records are in the database. What has damaged records is set aside, so that nothing is thrown away."""
        if not self._was_read:
            raise RuntimeError(f"{self.path} is to be removed, but was not read to its end")
        try:
            if self.damaged:
                aside = self.path.with_name(f"{self.path.name}.damaged")
                self.path.rename(aside)
                log.error(
                    "outcomes of calls could not be read back from the spool; the file is kept: check the disk, and look for these "
                    "calls among the rows flagged as orphaned",
                    path=str(aside),
                    damaged=self.damaged,
                )
            else:
                self.path.unlink(missing_ok=True)
        finally:
            self.release()

    def release(self) -> None:
        """Another process may take it from now on."""
        os.close(self._descriptor)


def _lock(descriptor: int, path: Path) -> bool:
    """False if someone else has the lock, or had it and has removed the file since it was opened."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except (BlockingIOError, FileNotFoundError):
        return False


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _end(data: bytes, position: int) -> int | None:
    """Where the record ends by its length, if that is within the file. No length is zero, so zeros are no record."""
    if position + _HEADER.size > len(data):
        return None
    length, _ = _HEADER.unpack_from(data, position)
    end: int = position + _HEADER.size + length
    return end if 0 < length <= LARGEST_RECORD + len(_VERSION) and end <= len(data) else None


def _body(data: bytes, position: int) -> bytes | None:
    if (end := _end(data, position)) is None:
        return None
    body = data[position + _HEADER.size : end]
    _, checksum = _HEADER.unpack_from(data, position)
    return body if crc32(body) == checksum else None


def _next_whole(data: bytes, position: int) -> int | None:
    """Where the next readable record begins. A search, as the damage may be in a length."""
    places = (match.start() for match in _MAY_BEGIN.finditer(data, position))
    return next((place for place in places if _body(data, place) is not None), None)


def _lost(data: bytes, position: int, resumed: int | None) -> int:
    """How many records there were from `position` on, by their lengths. At the end of a file the last one is torn, not lost,
    and so is all that a crash has left as zeros."""
    bound = len(data.rstrip(b"\0")) if resumed is None else resumed
    lost = 0
    while (end := _end(data, position)) is not None and end < bound:
        position = end
        lost += 1
    if resumed is None:
        return lost
    return lost + 1 if end == resumed else 1
