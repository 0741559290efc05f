"""Families of series, as text and over several workers, without a proxy around them."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.metrics.exposition import counts_of, exposed
from app.metrics.family import MOST_SERIES, OTHER, Counter, Family, Gauge, Histogram
from app.metrics.shared import PLACE, SharedCounts, share_among_workers


def families() -> tuple[Counter, Gauge, Gauge, Histogram]:
    return (
        Counter("calls", "Calls.", ("model",)),
        Gauge("queue", "Queue."),
        Gauge("age", "Age.", across="max"),
        Histogram("seconds", "Time.", ("step",), bounds=(0.1, 1)),
    )


def written(own: tuple[Family, ...], shared: SharedCounts | None = None) -> dict[tuple[str, str], float]:
    """By name and the bound of the bucket, or the value of the one label."""
    text = exposed(own, shared.others() if shared else ()).decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(sample.name, sample.labels.get("le") or next(iter(sample.labels.values()), "")): sample.value for sample in samples}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(PLACE, "")
    return share_among_workers(tmp_path)


def dead() -> str:
    """The id of a process that was."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
        return str(process.pid)


def left_behind(place: Path, pid: str, *, calls: float) -> None:
    counter, queue, age, seconds = families()
    counter.add(("a",), calls)
    queue.set(5)
    age.set(70)
    seconds.observe(0.5, ("settle",))
    (place / pid).write_bytes(msgspec.msgpack.encode(counts_of((counter, queue, age, seconds))))


def test_a_value_is_in_the_bucket_of_its_bound_and_all_above() -> None:
    *_, seconds = own = families()
    for value in (0.1, 0.5, 30):
        seconds.observe(value, ("settle",))
    found = {le: written(own)["seconds_bucket", le] for le in ("0.1", "1.0", "+Inf")}
    assert found == {"0.1": 1, "1.0": 2, "+Inf": 3}
    assert (written(own)["seconds_count", "settle"], written(own)["seconds_sum", "settle"]) == (3, 30.6)


def test_series_beyond_the_most_are_counted_as_other() -> None:
    calls = Counter("calls", "Calls.", ("model",))
    for number in range(MOST_SERIES + 50):
        calls.add((str(number),))
    assert len(calls.series) == MOST_SERIES + 1
    assert calls.series[OTHER,] == [50]


def test_whoever_answers_adds_what_the_others_have(place: Path) -> None:
    left_behind(place, str(os.getppid()), calls=3)
    calls, queue, age, seconds = own = families()
    calls.add(("a",), 2)
    queue.set(1)
    age.set(30)
    seconds.observe(0.05, ("settle",))

    found = written(own, SharedCounts(list(own), sample=list))

    assert found["calls_total", "a"] == 5
    assert (found["queue", ""], found["age", ""]) == (6, 70)
    assert [found["seconds_bucket", le] for le in ("0.1", "1.0", "+Inf")] == [1, 2, 2]


def test_of_a_worker_that_has_died_the_counts_stay_and_the_gauges_go(place: Path) -> None:
    left_behind(place, dead(), calls=3)
    own = families()

    found = written(own, SharedCounts(list(own), sample=list))

    assert (found["calls_total", "a"], found["queue", ""], found["age", ""]) == (3, 0, 0)


async def test_a_worker_goes_on_with_the_counts_of_one_that_has_died(place: Path) -> None:
    left_behind(place, dead(), calls=3)
    calls, *_ = own = families()
    calls.add(("a",), 1)
    shared = SharedCounts(list(own), sample=list)
    running = asyncio.create_task(shared.run())
    while calls.series["a",] != [4]:
        await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert {path.name for path in place.iterdir()} == {str(os.getpid())}  # noqa: ASYNC240 (a handful of files)
    assert written(own, shared)["calls_total", "a"] == 4


def test_what_dead_parents_have_left_is_removed_at_a_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PLACE, "")
    own, gone, other = str(os.getpid()), dead(), str(os.getppid())
    for pid in (own, gone, other):
        (tmp_path / "metrics" / pid).mkdir(parents=True)
        (tmp_path / "metrics" / pid / "1").write_bytes(b"")

    share_among_workers(tmp_path)

    assert {path.name for path in (tmp_path / "metrics").iterdir()} == {own, other}
    assert list((tmp_path / "metrics" / own).iterdir()) == []
