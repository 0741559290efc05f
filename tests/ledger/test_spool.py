"""The spool: what it has acknowledged is found again whatever happened to the process or to the disk, and nothing else is in the way."""

import asyncio
import errno
import fcntl
import os
import random
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from structlog.testing import capture_logs

import app.ledger.segment as segment_module
import app.ledger.spool as spool_module
import app.ledger.spool_writer as writer_module
from app.ledger.segment import OPENING, framed
from app.ledger.spool import AbandonedSegment, Spool, SpoolFailed

PLENTY = 1 << 30

CHILD = """
import asyncio, sys
from pathlib import Path
from uuid import uuid4
from app.ledger.spool import Spool

async def main():
    spool = Spool(Path(sys.argv[1]), largest=1 << 30)
    writer = asyncio.create_task(spool.run())
    async def one():
        while True:
            record = b'{"request_id": "%s"}' % str(uuid4()).encode()
            await spool.append(uuid4(), record)
            print(record.decode(), flush=True)
    await asyncio.gather(*(one() for _ in range(4)))

asyncio.run(main())
"""


class Disk:
    """The real one, whose calls are counted, and can be made to fail or to wait at the gate.

    A file is known by its inode: descriptors are used again.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.writes: list[int] = []
        self.syncs: list[int] = []
        self.failing_writes: Iterator[str | None] = iter(())
        self.failing_syncs: Iterator[bool] = iter(())
        self.gate = threading.Event()
        self.gate.set()
        self._write, self._fdatasync = os.write, os.fdatasync
        monkeypatch.setattr(segment_module.os, "write", self.write)
        monkeypatch.setattr(segment_module.os, "fdatasync", self.fdatasync)

    def write(self, descriptor: int, data: bytes) -> int:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # the event loop wakes itself by a socket
            return self._write(descriptor, data)
        self.writes.append(os.fstat(descriptor).st_ino)
        fails = next(self.failing_writes, None)
        if fails is None:
            return self._write(descriptor, data)
        written = self._write(descriptor, data[: len(data) // 2])
        if fails == "short":
            return written
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fdatasync(self, descriptor: int) -> None:
        self.syncs.append(os.fstat(descriptor).st_ino)
        assert self.gate.wait(30)
        if next(self.failing_syncs, False):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._fdatasync(descriptor)

    def forget(self) -> None:
        self.writes.clear()
        self.syncs.clear()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


@asynccontextmanager
async def running(spool: Spool) -> AsyncIterator[Spool]:
    writer = asyncio.create_task(spool.run())
    try:
        yield spool
    finally:
        assert not writer.done()
        writer.cancel()
        await asyncio.wait([writer])
        await spool.close()


@asynccontextmanager
async def spooling(directory: Path, *, largest: int = PLENTY) -> AsyncIterator[Spool]:
    async with running(Spool(directory, largest=largest)) as spool:
        yield spool


async def append_all(spool: Spool, *records: bytes) -> list[UUID]:
    """One after the other, so that each has a batch of its own."""
    ids = [uuid4() for _ in records]
    for request_id, record in zip(ids, records, strict=True):
        await spool.append(request_id, record)
    return ids


def make_segments_small(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """And batches, which are never more than a segment's worth."""
    for module in (spool_module, writer_module):
        monkeypatch.setattr(module, "SEGMENT_BYTES", size)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


def segments(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.spool"))


def stored(directory: Path, data: bytes) -> Path:
    path = directory / "0.spool"
    path.write_bytes(data)
    return path


@contextmanager
def taken(directory: Path) -> Iterator[list[AbandonedSegment]]:
    found = Spool(directory, largest=PLENTY).abandoned()
    yield found
    for segment in found:
        segment.release()


def found_in(directory: Path) -> list[bytes]:
    with taken(directory) as found:
        return [record for segment in found for record in segment.read()]


def read(directory: Path) -> tuple[list[bytes], int, bool]:
    """Of the one segment there: its records, how many are damaged, and whether it is torn."""
    with taken(directory) as (segment,):
        return list(segment.read()), segment.damaged, segment.torn


@contextmanager
def child(directory: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that appends until it is killed, and prints each record when it is durable."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(directory)], stdout=subprocess.PIPE, text=True, cwd=Path(segment_module.__file__).parents[2]
    ) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGKILL)


# What is acknowledged is found again


def test_all_that_was_acknowledged_is_found_when_the_process_was_killed(tmp_path: Path) -> None:
    with child(tmp_path) as process:
        assert process.stdout
        acknowledged = [process.stdout.readline() for _ in range(100)]
        process.send_signal(signal.SIGKILL)
        acknowledged += process.stdout.readlines()

    whole = {line.strip().encode() for line in acknowledged if line.endswith("\n")}
    assert len(whole) >= 100
    assert whole <= set(found_in(tmp_path))


async def test_what_is_unsettled_stays_when_the_process_ends(tmp_path: Path) -> None:
    async with spooling(tmp_path) as spool:
        first, _, _ = await append_all(spool, b"1", b"2", b"3")
        spool.settled([first])

    assert found_in(tmp_path) == [b"1", b"2", b"3"]


async def test_what_waits_when_the_process_ends_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_segments_small(monkeypatch, 2)
    spool = Spool(tmp_path, largest=PLENTY)
    waiting = asyncio.gather(*(spool.append(uuid4(), b"%d" % number) for number in range(5)))
    await asyncio.sleep(0.01)
    assert not waiting.done()

    await spool.close()
    await waiting

    assert found_in(tmp_path) == [b"0", b"1", b"2", b"3", b"4"]


async def test_an_append_after_the_end_is_refused(tmp_path: Path) -> None:
    async with spooling(tmp_path) as spool:
        pass

    assert not spool.accepting
    with pytest.raises(SpoolFailed, match="closed"):
        await spool.append(uuid4(), b"late")


async def test_a_batch_is_acknowledged_although_the_writer_is_cancelled_meanwhile(tmp_path: Path, disk: Disk) -> None:
    spool = Spool(tmp_path, largest=PLENTY)
    writer = asyncio.create_task(spool.run())
    await append_all(spool, b"one")
    disk.forget()
    disk.gate.clear()
    waiting = asyncio.create_task(spool.append(uuid4(), b"two"))
    await until(lambda: disk.syncs)
    writer.cancel()
    await asyncio.sleep(0.02)
    writer.cancel()
    await asyncio.sleep(0.02)
    assert not writer.done()

    disk.gate.set()
    await asyncio.wait([writer])
    await asyncio.wait_for(waiting, 30)
    await spool.close()

    assert found_in(tmp_path) == [b"one", b"two"]


async def test_a_record_is_written_although_its_caller_has_left(tmp_path: Path) -> None:
    spool = Spool(tmp_path, largest=PLENTY)
    waiting = asyncio.create_task(spool.append(uuid4(), b"kept"))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])

    await spool.close()

    assert found_in(tmp_path) == [b"kept"]


async def test_files_are_for_the_owner_alone(tmp_path: Path) -> None:
    directory = tmp_path / "data" / "spool"
    async with spooling(directory) as spool:
        await append_all(spool, b"secret")
        (path,) = segments(directory)

        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


# Damage


def test_a_record_cut_off_anywhere_is_torn_and_those_before_it_are_read(tmp_path: Path) -> None:
    before = OPENING + framed(b'{"a": 1}') + framed(b'{"b": 2}')
    last = framed(b'{"c": "cut"}')
    for kept in range(1, len(last)):
        stored(tmp_path, before + last[:kept])

        assert read(tmp_path) == ([b'{"a": 1}', b'{"b": 2}'], 0, True), kept


def test_a_torn_end_is_logged(tmp_path: Path) -> None:
    stored(tmp_path, OPENING + framed(b"1") + framed(b"2")[:-1])
    with capture_logs() as logs:
        assert found_in(tmp_path) == [b"1"]

    assert [(line["log_level"], line["segment"]) for line in logs] == [("info", "0.spool")]


@pytest.mark.parametrize("kept", range(len(OPENING) + 1))
def test_a_segment_cut_off_in_its_opening_holds_nothing(tmp_path: Path, kept: int) -> None:
    stored(tmp_path, OPENING[:kept])

    assert read(tmp_path) == ([], 0, 0 < kept < len(OPENING))


@pytest.mark.parametrize("bits", [0x01, 0x18, 0x80, 0xFF])
def test_a_byte_flipped_anywhere_in_a_record_costs_no_other_record(tmp_path: Path, bits: int) -> None:
    first, middle, last = framed(b'{"a": 1}'), framed(b'{"b": "middle"}'), framed(b'{"c": 3}')
    for place in range(len(middle)):
        flipped = bytearray(middle)
        flipped[place] ^= bits
        stored(tmp_path, OPENING + first + bytes(flipped) + last)

        assert read(tmp_path) == ([b'{"a": 1}', b'{"c": 3}'], 1, False), place


def test_each_damaged_record_is_counted(tmp_path: Path) -> None:
    good, bad = framed(b'{"a": 1}'), framed(b'{"b": 2}')[:-1] + b"!"
    stored(tmp_path, OPENING + bad + bad + good + bad + bad)

    assert read(tmp_path) == ([b'{"a": 1}'], 3, True)


def test_a_record_of_a_later_version_is_not_thrown_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as later:
        later.setattr(segment_module, "_VERSION", b"\x02")
        new = framed(b"new")
    stored(tmp_path, OPENING + framed(b"old") + new + framed(b"old"))

    assert read(tmp_path) == ([b"old", b"old"], 1, False)


@pytest.mark.parametrize("kept", [0, 5, 8, 9, 15])
def test_zeros_that_a_crash_has_left_are_a_torn_tail(tmp_path: Path, kept: int) -> None:
    stored(tmp_path, OPENING + framed(b'{"a": 1}') + framed(b'{"b": "2"}')[:kept] + bytes(4096))

    assert read(tmp_path) == ([b'{"a": 1}'], 0, True)


def test_any_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    chance = random.Random(1)
    records = [b"", b"\0" * 100, framed(b"within"), *(chance.randbytes(chance.randrange(5000)) for _ in range(50))]
    stored(tmp_path, OPENING + b"".join(map(framed, records)))

    assert read(tmp_path) == (records, 0, False)


def test_a_damaged_segment_is_set_aside_not_removed(tmp_path: Path) -> None:
    data = OPENING + framed(b"bad")[:-1] + b"!" + framed(b"good")
    path = stored(tmp_path, data)
    with capture_logs() as logs:
        (segment,) = Spool(tmp_path, largest=PLENTY).abandoned()
        list(segment.read())
        segment.remove()

    assert segments(tmp_path) == []
    assert path.with_name("0.spool.damaged").read_bytes() == data
    assert [line["damaged"] for line in logs] == [1]


def test_a_segment_that_was_not_read_to_its_end_is_not_removed(tmp_path: Path) -> None:
    path = stored(tmp_path, OPENING + framed(b"1") + framed(b"2"))
    with taken(tmp_path) as (segment,):
        next(segment.read())
        with pytest.raises(RuntimeError, match="not read to its end"):
            segment.remove()

    assert path.exists()


@pytest.mark.parametrize("opening", [OPENING[:-1] + b"\x02", b"somebody else's file"])
def test_a_segment_of_an_unknown_version_is_left_alone_and_reported_once(tmp_path: Path, opening: bytes) -> None:
    path = stored(tmp_path, opening + framed(b"1"))
    spool = Spool(tmp_path, largest=PLENTY)
    with capture_logs() as logs:
        assert spool.abandoned() == spool.abandoned() == []

    assert [(line["log_level"], line["path"]) for line in logs] == [("error", str(path))]
    assert path.read_bytes() == opening + framed(b"1")
    assert spool.left_alone == 1
    path.unlink()
    assert spool.abandoned() == []
    assert spool.left_alone == 0


# A failing disk


async def test_a_failed_sync_is_never_tried_again_on_its_file(tmp_path: Path, disk: Disk) -> None:
    async with spooling(tmp_path) as spool:
        await append_all(spool, b"before")
        disk.forget()
        disk.failing_syncs = iter([True])
        await append_all(spool, b"failed", b"after")
        failed, *others = disk.syncs

        assert disk.writes == [failed, *others]
        assert failed not in others
        assert spool.accepting
    kept = [path.stat().st_ino for path in segments(tmp_path)]
    assert sorted(kept) == sorted({failed, *others})
    with taken(tmp_path) as found:
        assert next(found[0].read()) == b"before"
        assert list(found[1].read()) == [b"failed", b"after"]


@pytest.mark.parametrize("how", ["raises", "short"])
async def test_half_a_record_costs_none_before_and_none_after_it(tmp_path: Path, disk: Disk, how: str) -> None:
    async with spooling(tmp_path) as spool:
        await append_all(spool, b"before")
        disk.forget()
        disk.failing_writes = iter([how])
        await append_all(spool, b"does not fit", b"after")
        failed, *others = disk.writes

        assert failed not in others
    with taken(tmp_path) as found:
        assert [list(segment.read()) for segment in found] == [[b"before"], [b"does not fit", b"after"]]
        assert [(segment.damaged, segment.torn) for segment in found] == [(0, True), (0, False)]


async def test_an_append_fails_when_the_new_segment_fails_too(tmp_path: Path, disk: Disk) -> None:
    async with spooling(tmp_path) as spool:
        await append_all(spool, b"before")
        disk.failing_writes = iter(["raises", "raises"])
        with pytest.raises(SpoolFailed, match="No space left on device"):
            await spool.append(uuid4(), b"lost")

        assert not spool.accepting
        assert "No space left on device" in str(spool.trouble)

        await append_all(spool, b"after")

        assert spool.accepting
        assert spool.trouble is None
    assert found_in(tmp_path) == [b"before", b"after"]


async def test_all_who_share_a_failed_batch_are_told_and_may_try_again(tmp_path: Path, disk: Disk) -> None:
    ids = [uuid4() for _ in range(5)]
    async with spooling(tmp_path) as spool:
        spool.settled(await append_all(spool, b"0"))
        await until(lambda: not segments(tmp_path))
        disk.failing_syncs = iter([True, True])
        told = await asyncio.gather(*(spool.append(one, b"%d" % number) for number, one in enumerate(ids)), return_exceptions=True)
        await asyncio.gather(*(spool.append(one, b"%d" % number) for number, one in enumerate(ids)))

        assert [type(answer) for answer in told] == [SpoolFailed] * 5
    assert found_in(tmp_path) == [b"0", b"1", b"2", b"3", b"4"]


async def test_whatever_goes_wrong_while_writing_is_told_and_the_writer_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(record: bytes) -> bytes:
        raise MemoryError

    async with spooling(tmp_path) as spool:
        with monkeypatch.context() as once:
            once.setattr(writer_module, "framed", exhausted)
            with pytest.raises(SpoolFailed, match="MemoryError"):
                await spool.append(uuid4(), b"lost")
        await append_all(spool, b"after")

    assert found_in(tmp_path) == [b"after"]


async def test_a_disk_that_works_again_is_noticed_without_an_append(tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "PROBE_EVERY", 0.02)
    async with spooling(tmp_path) as spool:
        spool.settled(await append_all(spool, b"0"))
        await until(lambda: not segments(tmp_path))
        disk.failing_syncs = iter([True] * 5)
        with pytest.raises(SpoolFailed):
            await spool.append(uuid4(), b"lost")
        disk.forget()
        await until(lambda: spool.accepting)

        assert len(disk.syncs) == 4
        assert spool.trouble is None
        assert segments(tmp_path) == []


async def test_a_spool_that_cannot_be_written_is_known_before_it_is_needed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    async with spooling(tmp_path / "file" / "spool") as spool:
        await until(lambda: not spool.accepting)

        assert "cannot be written (Not a directory)" in str(spool.trouble)


def test_a_probe_that_was_left_behind_holds_no_records(tmp_path: Path) -> None:
    stored(tmp_path, OPENING + writer_module._PROBE)

    assert read(tmp_path) == ([], 0, True)


async def test_a_record_too_large_to_be_found_again_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "LARGEST_RECORD", 10)
    async with spooling(tmp_path) as spool:
        await spool.append(uuid4(), bytes(10))
        with pytest.raises(SpoolFailed, match="11 bytes is too large"):
            await spool.append(uuid4(), bytes(11))


# Room


async def test_a_full_spool_accepts_again_when_its_records_are_settled(tmp_path: Path) -> None:
    async with spooling(tmp_path, largest=3000) as spool:
        ids = await append_all(spool, bytes(1000), bytes(1000))
        assert spool.accepting

        ids += await append_all(spool, bytes(1000), b"in flight")
        assert not spool.accepting
        assert "is full" in str(spool.trouble)

        spool.settled(ids)
        await until(lambda: spool.accepting)
        assert spool.trouble is None
        assert segments(tmp_path) == []


async def test_a_segment_goes_only_when_all_of_its_records_are_settled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_segments_small(monkeypatch, 200)
    async with spooling(tmp_path) as spool:
        one, two, three, four = await append_all(spool, bytes(100), bytes(100), bytes(100), bytes(100))
        first, second = segments(tmp_path)

        spool.settled([one, three])
        await append_all(spool, b"goes to a third")
        assert segments(tmp_path)[:2] == [first, second]

        spool.settled([four])
        await until(lambda: not second.exists())
        assert first.exists()

        spool.settled([two])
        await until(lambda: not first.exists())
    assert found_in(tmp_path) == [b"goes to a third"]


async def test_what_is_settled_while_it_is_being_written_holds_no_segment(tmp_path: Path, disk: Disk) -> None:
    request_id = uuid4()
    async with spooling(tmp_path) as spool:
        earlier = await append_all(spool, b"0")
        disk.forget()
        disk.gate.clear()
        waiting = asyncio.create_task(spool.append(request_id, b"1"))
        await until(lambda: disk.syncs)
        spool.settled([request_id, *earlier])
        await waiting
        disk.gate.set()
        await until(lambda: not segments(tmp_path))


async def test_what_is_settled_before_it_is_written_is_not_written(tmp_path: Path, disk: Disk) -> None:
    spool = Spool(tmp_path, largest=PLENTY)
    request_id = uuid4()
    waiting = asyncio.create_task(spool.append(request_id, b"1"))
    await asyncio.sleep(0)
    spool.settled([request_id])
    await waiting
    await spool.close()

    assert disk.writes == []


async def test_calls_that_were_never_spooled_may_be_settled(tmp_path: Path) -> None:
    async with spooling(tmp_path) as spool:
        spool.settled([uuid4()])
        await append_all(spool, b"1")
        spool.settled([uuid4()])
    assert found_in(tmp_path) == [b"1"]


async def test_a_segment_that_cannot_be_removed_is_left_to_replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, missing_ok: bool) -> None:
        raise PermissionError

    async with spooling(tmp_path) as spool:
        ids = await append_all(spool, b"1")
        with monkeypatch.context() as broken, capture_logs() as logs:
            broken.setattr(Path, "unlink", refused)
            spool.settled(ids)
            await until(lambda: logs)
        await append_all(spool, b"2")

        assert [line["path"] for line in logs] == [str(segments(tmp_path)[0])]
        assert found_in(tmp_path) == [b"1"]


# Batches


async def test_an_id_that_is_durable_is_not_written_again(tmp_path: Path) -> None:
    async with spooling(tmp_path) as spool:
        request_id = uuid4()
        await asyncio.gather(*(spool.append(request_id, b"once") for _ in range(3)))
        await spool.append(request_id, b"once")
    assert found_in(tmp_path) == [b"once"]


async def test_appends_that_wait_share_one_write_and_one_sync(tmp_path: Path, disk: Disk) -> None:
    async with spooling(tmp_path) as spool:
        await append_all(spool, b"first")
        disk.forget()
        await asyncio.gather(*(spool.append(uuid4(), b"%d" % number) for number in range(100)))

        assert len(disk.writes) == len(disk.syncs) == 1
    assert found_in(tmp_path) == [b"first", *(b"%d" % number for number in range(100))]


async def test_a_new_segment_is_begun_when_one_is_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_segments_small(monkeypatch, 1000)
    async with spooling(tmp_path) as spool:
        await asyncio.gather(*(spool.append(uuid4(), bytes(100)) for _ in range(100)))

        sizes = [path.stat().st_size for path in segments(tmp_path)]
        assert len(sizes) == 10
        assert max(sizes) < 1200


async def test_a_new_segment_is_in_its_directory_for_good_before_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    directory = tmp_path.stat().st_ino  # noqa: ASYNC240 (nothing else runs)
    async with spooling(tmp_path) as spool:
        spool.settled(await append_all(spool, b"0"))
        await until(lambda: not segments(tmp_path))
        monkeypatch.setattr(segment_module.os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
        await append_all(spool, b"1", b"2")

        assert synced == [directory]


# Several processes


def test_a_living_process_keeps_its_segments(tmp_path: Path) -> None:
    with child(tmp_path) as process:
        assert process.stdout
        process.stdout.readline()
        assert segments(tmp_path)
        assert Spool(tmp_path, largest=PLENTY).abandoned() == []

    with taken(tmp_path) as found:
        assert [segment.path for segment in found] == segments(tmp_path)


async def test_two_spools_in_one_directory_settle_each_their_own(tmp_path: Path) -> None:
    async with spooling(tmp_path) as one, spooling(tmp_path) as other:
        (mine,) = await append_all(one, b"mine")
        await append_all(other, b"theirs")
        assert one.abandoned() == other.abandoned() == []

        one.settled([mine])
        await until(lambda: len(segments(tmp_path)) == 1)
    assert found_in(tmp_path) == [b"theirs"]


def test_an_abandoned_segment_has_one_taker_until_it_is_released(tmp_path: Path) -> None:
    stored(tmp_path, OPENING + framed(b"1"))
    one, other = Spool(tmp_path, largest=PLENTY), Spool(tmp_path, largest=PLENTY)
    (segment,) = one.abandoned()
    assert one.abandoned() == other.abandoned() == []

    segment.release()
    (segment,) = other.abandoned()
    assert list(segment.read()) == [b"1"]
    segment.remove()

    assert one.abandoned() == segments(tmp_path) == []


@pytest.mark.parametrize("what", ["holds", "has removed"])
async def test_a_file_that_another_process_took_before_it_was_locked_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    lock, lost = fcntl.flock, []

    def late(descriptor: int, operation: int) -> None:
        if not lost:
            (path,) = lost[:] = segments(tmp_path)
            if what == "has removed":
                path.unlink()
            else:
                raise BlockingIOError
        lock(descriptor, operation)

    spool = Spool(tmp_path, largest=PLENTY)
    with monkeypatch.context() as race:
        race.setattr(segment_module.fcntl, "flock", late)
        waiting = asyncio.create_task(spool.append(uuid4(), b"1"))
        await asyncio.sleep(0)
        await spool.close()
        await waiting

    kept = [path for path in segments(tmp_path) if path.stat().st_size]
    assert len(kept) == 1
    assert kept != lost
    assert found_in(tmp_path) == [b"1"]


def test_a_segment_removed_between_opening_and_locking_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = stored(tmp_path, OPENING + framed(b"1"))
    lock: Any = fcntl.flock

    def late(descriptor: int, operation: int) -> None:
        path.unlink()
        lock(descriptor, operation)

    monkeypatch.setattr(segment_module.fcntl, "flock", late)

    assert Spool(tmp_path, largest=PLENTY).abandoned() == []
