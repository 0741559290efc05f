"""The counts of several workers as one: each writes its own to a file every second, and whichever is asked adds the others'.

`DATA_DIR/metrics/<pid of the parent>/<pid of the worker>` is written anew beside itself and moved into its place. A worker that
takes the place of one that has died goes on with its counts, so that they never fall and files don't add up. One that is
killed takes with it what it has counted since its file was written. A file that can't be read or written is said, once, and its
counts are missing meanwhile: nothing else depends on them.
"""

import asyncio
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import structlog

from app.metrics.exposition import Counts, counts_of
from app.metrics.family import Family

log = structlog.get_logger(__name__)

PLACE = "BILLING_PROXY_METRICS"
"""The environment variable by which workers know their directory."""
EVERY = 1.0
"""Seconds between two writes."""


def share_among_workers(data_dir: Path) -> Path:
    """In the parent, before it starts workers: a directory for their counts. Those of parents that are gone are removed."""
    directory = data_dir / "metrics"
    for left in directory.glob("*"):
        if left.name == str(os.getpid()) or not _is_alive(left.name):
            shutil.rmtree(left, ignore_errors=True)
    own = directory / str(os.getpid())
    own.mkdir(parents=True, exist_ok=True)
    os.environ[PLACE] = str(own.absolute())
    return own


class SharedCounts:
    """Of one worker. `sample` brings gauges up to date. Without other workers there is no directory, and nothing to do."""

    def __init__(self, families: list[Family], *, sample: Callable[[], None]) -> None:
        self._families = families
        self._sample = sample
        self._directory = Path(os.environ[PLACE]) if PLACE in os.environ else None
        self._said = False

    async def run(self) -> None:
        """Until cancelled."""
        if self._directory is None:
            return
        self._take_over()
        while True:
            self.write()
            await asyncio.sleep(EVERY)

    def others(self) -> list[Counts]:
        """What the other workers have counted; of dead ones, no gauges."""
        if self._directory is None or not self._directory.is_dir():
            return []
        counters = counts_of(self._families, with_gauges=False).keys()
        paths = [path for path in self._directory.iterdir() if path.name.isdigit() and path.name != str(os.getpid())]
        found = [(self._read(path), _is_alive(path.name)) for path in paths]
        return [counts if is_alive else {name: counts[name] for name in counters & counts.keys()} for counts, is_alive in found]

    def write(self) -> None:
        if self._directory is None:
            return
        self._sample()
        path = self._directory / str(os.getpid())
        try:
            path.with_suffix(".new").write_bytes(msgspec.msgpack.encode(counts_of(self._families)))
            path.with_suffix(".new").replace(path)
            self._said = False
        except OSError as error:
            self._say("this worker's metrics can't be written", path, error)

    def _take_over(self) -> None:
        """From a worker that has died. Whoever moves its file first has it."""
        assert self._directory is not None
        own = self._directory / str(os.getpid())
        for path in self._directory.iterdir():
            if path.name.isdigit() and not _is_alive(path.name):
                with suppress(FileNotFoundError):
                    path.rename(own)
                    break
        counts = self._read(own) if own.exists() else {}
        for family in self._families:
            if family.kind != "gauge":
                for labels, series in counts.get(family.name, ()):
                    known = family.of(labels)
                    if len(known) == len(series):
                        known[:] = [one + other for one, other in zip(known, series, strict=True)]

    def _read(self, path: Path) -> Counts:
        try:
            return msgspec.msgpack.decode(path.read_bytes(), type=Counts)
        except FileNotFoundError:
            return {}  # another worker has taken it over just now
        except (OSError, msgspec.MsgspecError) as error:
            self._say("another worker's metrics can't be read", path, error)
            return {}

    def _say(self, what: str, path: Path, error: Exception) -> None:
        if not self._said:
            self._said = True
            log.warning(what, path=str(path), error=str(error))


def _is_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
