"""What `billing-proxy doctor` looks at on this machine: secrets, the spool, the disk.

It only reads, save that a file of a few bytes is written beside the spool, synced and removed again.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pydantic import SecretStr

from app.errors import StartupError
from app.ledger.segment import SUFFIX, AbandonedSegment, UnknownFormatError
from app.reports.findings import Finding, ok, warning, wrong
from app.runtime.secrets_file import NAME, read_secrets
from app.settings import Settings

STRONG = 24
"""Letters of a token of which few guesses come to nothing."""
FEWEST_LETTERS = 10
"""Different ones."""
GIBIBYTE = 1024**3
SLOW = 0.25
"""Seconds that a sync may take."""


def secrets(settings: Settings) -> Iterator[Finding]:
    try:
        kept = read_secrets(settings.data_dir)
    except StartupError as refused:
        yield wrong("secrets", str(refused), "see there")
        return
    for name, given in (("ADMIN_TOKEN", settings.admin_token), ("SECRET_KEY", settings.secret_key)):
        value = given or (SecretStr(kept[name]) if name in kept else None)
        if value is None:
            yield warning("secrets", f"{name} is not set, and {settings.data_dir / NAME} has none", "`serve` makes one at its start")
        elif len(text := value.get_secret_value()) < STRONG or len(set(text)) < FEWEST_LETTERS:
            yield warning("secrets", f"{name} could be guessed", f"take {STRONG} random letters or more: `openssl rand -base64 32`")
        else:
            yield ok("secrets", f"{name} is {'set' if given else f'in {settings.data_dir / NAME}'}, and long enough")


def spool(settings: Settings) -> Iterator[Finding]:
    directory = settings.data_dir / "spool"
    place = directory if directory.is_dir() else settings.data_dir
    if not place.is_dir():
        yield ok("spool", f"{settings.data_dir} is not there yet: `serve` makes it")
        return
    yield _writable(place)
    segments = sorted(directory.glob(f"*{SUFFIX}"))
    size = sum(path.stat().st_size for path in segments)
    share = f"{size:,} of {settings.spool_max_bytes:,} bytes"
    if size >= settings.spool_max_bytes:
        yield wrong("spool", f"it is full ({share}): no new calls are let through", "bring the database back, or raise SPOOL_MAX_BYTES")
    elif size:
        yield warning("spool", f"records of calls wait in it for their rows ({share})", "start a proxy that reaches the database")
    else:
        yield ok("spool", f"it is empty ({share})")
    yield from _abandoned(segments)
    for path in sorted(directory.glob(f"*{SUFFIX}.damaged")):
        yield warning("spool", f"{path.name} could not be read back whole", "check the disk; its calls are among the rows flagged orphaned")


def _abandoned(segments: list[Path]) -> Iterator[Finding]:
    for path in segments:
        try:
            segment = AbandonedSegment.take(path)
        except (UnknownFormatError, OSError) as error:
            yield wrong("spool", f"{path.name} can't be read: {error}", "start the version that wrote it, or make it readable")
            continue
        if segment is None:
            continue
        try:
            records = sum(1 for _ in segment.read())
        finally:
            segment.release()
        ends = "; its end is torn, which was never acknowledged" if segment.torn else ""
        yield warning("spool", f"{path.name} is of a process that has died: {records} records{ends}", "start a proxy: it settles them")
        if segment.damaged:
            yield wrong("spool", f"{segment.damaged} records of {path.name} are damaged", "check the disk; keep the file")


def _writable(place: Path) -> Finding:
    started = time.monotonic()
    try:
        with tempfile.NamedTemporaryFile(dir=place, prefix="doctor-") as file:
            file.write(b"doctor")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return wrong("spool", f"{place} can't be written to: {error.strerror or error}", "mend the disk, or its owner and rights")
    if (took := time.monotonic() - started) > SLOW:
        return warning("spool", f"a sync in {place} took {took * 1000:.0f} ms", "take a faster disk for DATA_DIR")
    return ok("spool", f"{place} can be written to, and synced in {took * 1000:.0f} ms")


def disk(settings: Settings) -> Iterator[Finding]:
    if not settings.data_dir.is_dir():
        return
    free = shutil.disk_usage(settings.data_dir).free
    wanted = settings.spool_max_bytes * settings.workers
    if free < GIBIBYTE // 4:
        yield wrong("disk", f"{free / GIBIBYTE:.2f} GiB are free in {settings.data_dir}", "make room")
    elif free < wanted:
        yield warning(
            "disk",
            f"{free / GIBIBYTE:.1f} GiB are free in {settings.data_dir}, and the spool may take {wanted / GIBIBYTE:.1f}",
            "make room, or lower SPOOL_MAX_BYTES",
        )
    else:
        yield ok("disk", f"{free / GIBIBYTE:.1f} GiB are free in {settings.data_dir}")
