"""The embedded database is killed under a proxy that serves."""

import os
import signal
import subprocess
import time

import pytest

from tests.harness.books import wait_until
from tests.harness.installation import Installation

DIED = "the embedded PostgreSQL has ended on its own"


def kill_database(installation: Installation) -> None:
    os.kill(int((installation.directory / ".data/postgres/postmaster.pid").read_text().split()[0]), signal.SIGKILL)


def processes(installation: Installation) -> str:
    return subprocess.run(["/usr/bin/pgrep", "-af", str(installation.directory)], capture_output=True, text=True, check=False).stdout


def more_rows(installation: Installation, before: int) -> list[dict[str, object]]:
    """Empty as long as there are no more, or while a worker first finds that its connections are gone, which it answers with 503."""
    answer = installation.http.get("/logs", headers=installation.operator())
    rows = list(answer.json()["data"]) if answer.status_code == 200 else []
    return rows if len(rows) > before else []


@pytest.mark.parametrize("workers", ["1", "2"])
def test_calls_are_answered_again(started_before: Installation, workers: str) -> None:
    started_before.environment["WORKERS"] = workers
    started_before.start()
    wait_until(lambda: started_before.call().status_code == 200, what="an answer")
    before = started_before.rows()
    kill_database(started_before)
    wait_until(lambda: started_before.call().status_code == 200, what="an answer after the database was killed")
    after = wait_until(lambda: more_rows(started_before, len(before)), what="the row of that call")
    assert after[-len(before) :] == before
    assert started_before.stop() == 0
    assert processes(started_before) == ""
    assert (started_before.directory / "log").read_text().count(DIED) == 1


@pytest.mark.parametrize("delay", [0.0, 0.15])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_while_the_database_comes_back_leaves_no_process(started_before: Installation, number: int, delay: float) -> None:
    started_before.start()
    kill_database(started_before)
    time.sleep(delay)
    assert started_before.stop(number) == 0
    assert processes(started_before) == ""
