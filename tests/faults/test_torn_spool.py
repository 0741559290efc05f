"""A spool whose process was killed while it wrote, or whose replay was: what was acknowledged has its row, once."""

import asyncio
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pytest

from app.ledger.segment import framed
from app.ledger.spool import Spool
from tests.faults.conftest import Tally
from tests.harness.background import Background
from tests.harness.books import wait_until
from tests.harness.fault_books import assert_audit
from tests.harness.postgres import Database
from tests.harness.proxy import bare_environment
from tests.harness.scale import IS_FULL, scaled
from tests.ledger.calls import Call, Payer, make_payer, rows
from tests.ledger.replica import Replica
from tests.ledger.sums import check_at_rest

RECORDS = 4
"""Of each segment that is cut."""
SEGMENTS, EACH = scaled(full=60, short=12), 25
"""That two processes replay at once, and the records of each."""
LONG = scaled(full=4000, short=800)
"""Records of the segment whose replay is killed."""

REPLAYING = """
import sys
from pathlib import Path
import app.ledger.replay as replay
from tests.ledger.replica import Replica

replay.LOOK_EVERY, replay.AT_ONCE = 0.02, 20
replica = Replica(sys.argv[1], spool=Path(sys.argv[2]))
print("ready", flush=True)
sys.stdin.read()
replica.close()
"""


@pytest.fixture
def payer(db: Database) -> Iterator[Payer]:
    payer = make_payer(db, credit="1000000")
    yield payer
    check_at_rest(db, [payer.user_id])
    assert_audit(db)


def died_with(db: Database, calls: Sequence[Call]) -> None:
    """They are held by a process that is gone."""
    replica = Replica(db.url)
    replica.hold(*calls)
    replica.close()
    db.execute("DELETE FROM aigcspace.instance WHERE id = $1", replica.ledger.lease.id)


def spooled(background: Background, directory: Path, calls: Sequence[Call]) -> tuple[str, bytes]:
    """Name and content of the segment that a process leaves if it is killed when all have been acknowledged."""

    async def write() -> asyncio.Task[None]:
        writing = asyncio.create_task(spool.run())
        for call in calls:
            await spool.append(call.request_id, call.outcome().entry)
        return writing

    async def stop(writing: asyncio.Task[None]) -> None:
        writing.cancel()
        await asyncio.wait([writing])
        await spool.close()

    spool = Spool(directory, largest=1 << 30)
    writing = background.run(write())
    (path,) = directory.glob("*.spool")
    left = path.name, path.read_bytes()
    background.run(stop(writing))
    return left


def appear(directory: Path, name: str, data: bytes) -> None:
    """At once, so that nobody reads half of it."""
    (directory / f"{name}.part").write_bytes(data)
    (directory / f"{name}.part").rename(directory / name)


def is_empty(directory: Path) -> bool:
    return not list(directory.glob("*.spool*"))


def places(size: int) -> list[int]:
    """How many bytes of a record are left: of its length (4), checksum (4), version (1) and payload."""
    if IS_FULL:
        return list(range(size + 1))
    return [0, 1, 3, 4, 5, 8, 9, 10, size // 2, size - 2, size - 1, size]


@pytest.mark.timeout(scaled(full=1200, short=120))
def test_a_segment_cut_anywhere_in_its_last_record_gives_all_others_their_rows(
    db: Database, background: Background, payer: Payer, tmp_path: Path, tally: Callable[[str, str, int], Tally]
) -> None:
    directory = tmp_path / "left"
    directory.mkdir()
    size = len(framed(payer.call("1.000").outcome().entry))
    cuts = {kept: [payer.call(f"{number}.{kept:03}") for number in range(RECORDS)] for kept in places(size)}
    everyone = [call for calls in cuts.values() for call in calls]
    died_with(db, everyone)
    left: dict[str, bytes] = {}
    for kept, calls in cuts.items():
        name, data = spooled(background, tmp_path / str(kept), calls)
        left[name] = data[: len(data) - size + kept]
        assert data.endswith(framed(calls[-1].outcome().entry))
    torn = {calls[-1].request_id for kept, calls in cuts.items() if kept < size}

    for name, data in left.items():
        appear(directory, name, data)
    replica = Replica(db.url, spool=directory)
    wait_until(lambda: is_empty(directory), what="all segments are replayed and gone", within=60)
    after = rows(db, payer.user_id)
    replica.run(replica.ledger._recovery._reap())
    ended = rows(db, payer.user_id)
    replica.close()

    assert Counter(row["request_id"] for row in after) == Counter(call.request_id for call in everyone if call.request_id not in torn)
    assert [row for row in ended if row["request_id"] not in torn] == after
    truth = {call.request_id: (Decimal(0), "orphaned") if call.request_id in torn else (call.cost, None) for call in everyone}
    assert {row["request_id"]: (row["charge"], row["end_reason"]) for row in ended} == truth
    assert len(ended) == len(everyone)
    tally("spool segments cut in their last record", "cuts", len(places(size))).add(len(left))

    # the machine died before their removal was on the disk
    for name, data in left.items():
        appear(directory, name, data)
    replica = Replica(db.url, spool=directory)
    wait_until(lambda: is_empty(directory), what="all segments are gone again", within=60)
    replica.close()
    assert rows(db, payer.user_id) == ended


class Other:
    """A process that looks all the time for segments to replay. `said`: its output, when it has ended."""

    def __init__(self, url: str, directory: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", REPLAYING, url, str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            env=bare_environment(),
        )
        self.said = ""

    def wait_ready(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            if line == "ready\n":
                return
        raise AssertionError("it ended before it was ready")

    def end(self, *, signal_: int | None = None) -> int:
        """Its exit code."""
        if signal_ is not None:
            self.process.send_signal(signal_)
        self.said += self.process.communicate(timeout=30)[0]
        return self.process.returncode


@contextmanager
def others(url: str, directory: Path, number: int) -> Iterator[list[Other]]:
    started = [Other(url, directory) for _ in range(number)]
    try:
        for one in started:
            one.wait_ready()
        yield started
    finally:
        for one in started:
            if one.process.poll() is None:
                one.end()


def replayed(some: Sequence[Other], name: str) -> int:
    """How often it was replayed to its end."""
    lines = [line for one in some for line in one.said.splitlines()]
    return sum("replayed" in line and name in line for line in lines)


def assert_each_once(db: Database, payer: Payer, calls: Sequence[Call]) -> None:
    found = rows(db, payer.user_id)
    assert {row["request_id"]: row["charge"] for row in found} == {call.request_id: call.cost for call in calls}
    assert len(found) == len(calls)


@pytest.mark.timeout(scaled(full=600, short=120))
def test_two_processes_that_replay_one_directory_settle_each_record_once(
    db: Database, background: Background, payer: Payer, tmp_path: Path, tally: Callable[[str, str, int], Tally]
) -> None:
    directory = tmp_path / "left"
    directory.mkdir()
    batches = [[payer.call(f"{number}.{segment:03}") for number in range(EACH)] for segment in range(SEGMENTS)]
    calls = [call for batch in batches for call in batch]
    died_with(db, calls)
    left = dict(spooled(background, tmp_path / str(number), batch) for number, batch in enumerate(batches))

    with others(db.url, directory, 2) as both:
        for name, data in left.items():
            appear(directory, name, data)
        wait_until(lambda: is_empty(directory), what="all segments are replayed", within=60)
        assert [one.end() for one in both] == [0, 0]

    assert {name: replayed(both, name) for name in left} == dict.fromkeys(left, 1)
    assert_each_once(db, payer, calls)
    tally("spools replayed by two processes at once", "segments", SEGMENTS).add(len(left))
    tally("spools replayed by two processes at once", "processes that replayed some", 2).add(
        sum(any(replayed([one], name) for name in left) for one in both)
    )


@pytest.mark.timeout(scaled(full=600, short=120))
def test_a_replay_that_was_killed_is_done_again_by_another_process(
    db: Database, background: Background, payer: Payer, tmp_path: Path, tally: Callable[[str, str, int], Tally]
) -> None:
    directory = tmp_path / "left"
    directory.mkdir()
    calls = [payer.call(f"0.{number:010}") for number in range(LONG)]
    died_with(db, calls)
    name, data = spooled(background, tmp_path / "written", calls)
    kills = tally("replays killed midway", "kills", 1)

    def settled() -> int:
        return int(db.value("SELECT count(*) FROM aigcspace.api_call_log WHERE user_id = $1", payer.user_id))

    with others(db.url, directory, 1) as (first,):
        appear(directory, name, data)
        wait_until(settled, what="some records are settled")
        assert first.end(signal_=signal.SIGKILL) == -signal.SIGKILL
    kills.add(0 < settled() < len(calls))
    assert (directory / name).exists() or settled() == len(calls)

    with others(db.url, directory, 1) as (second,):
        wait_until(lambda: is_empty(directory), what="the rest is settled", within=60)
        assert second.end() == 0

    assert_each_once(db, payer, calls)
    assert kills.is_complete
