"""Files of archived rows: NDJSON, compressed with zstd. Each line is a row of `api_call_log`, all of its columns by name (those of
the platform's own too), with money as decimal strings.

A file is written under another name, synced, read back and compared before it gets its own: what has its name is whole.
Raises `ArchiveFailed` where it isn't.
"""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import zstandard

from app.errors import StartupError

LEVEL = 9
_READ = 64 * 1024
"""Bytes at once."""


class ArchiveFailed(StartupError):
    """What is said is the one line that the operator sees. Nothing was deleted that isn't in a file."""


@dataclass(frozen=True, slots=True)
class Sums:
    rows: int = 0
    bill: Decimal = Decimal(0)
    charge: Decimal = Decimal(0)
    write_off: Decimal = Decimal(0)

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(self.rows + other.rows, self.bill + other.bill, self.charge + other.charge, self.write_off + other.write_off)


@dataclass(frozen=True, slots=True)
class ArchivedRow:
    id: int
    sums: Sums


def write_file(path: Path, lines: Iterable[str], expected: Iterable[ArchivedRow]) -> list[ArchivedRow]:
    """`expected`: what the lines have to hold, in their order. Returns that, as it was read back."""
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            with zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).stream_writer(file, closefd=False) as packed:
                for line in lines:
                    packed.write(line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        found = list(read_file(part))
        if found != list(expected):
            raise ArchiveFailed(f"{part} was read back and is not what was written: check the disk. Nothing was deleted.")
        part.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise ArchiveFailed(f"{part} can't be written: {error.strerror or error}. Nothing of it was deleted.") from error
    return found


def read_file(path: Path) -> Iterator[ArchivedRow]:
    try:
        for line in _lines(path):
            yield _row(json.loads(line))
    except FileNotFoundError:
        raise ArchiveFailed(f"{path} is missing, and not all of its rows are deleted yet: give the directory it is in as --to.") from None
    except (OSError, zstandard.ZstdError, ValueError, KeyError, ArithmeticError) as error:
        raise ArchiveFailed(f"{path} can't be read: {error}. Its rows that are still in the database stay there.") from error


def _lines(path: Path) -> Iterator[bytes]:
    """Raises `ValueError` for a file that is cut off, which the library's own readers take for its end."""
    unpacked, rest = zstandard.ZstdDecompressor().decompressobj(), b""
    with path.open("rb") as file:
        while packed := file.read(_READ):
            *lines, rest = (rest + unpacked.decompress(packed)).split(b"\n")
            yield from lines
    if rest or not unpacked.eof:
        raise ValueError("it is cut off")


def _row(row: dict[str, Any]) -> ArchivedRow:
    return ArchivedRow(row["id"], Sums(1, *(Decimal(row[name]) for name in ("bill", "charge", "write_off"))))


def _sync(directory: Path) -> None:
    opened = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
