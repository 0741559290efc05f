"""An installation of its own for each test: one that was never started, or a copy of one that was started and stopped."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.installation import Installation


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    yield from _until_stopped(Installation(tmp_path))


@pytest.fixture(scope="session")
def started_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = Installation(tmp_path_factory.mktemp("installation"))
    made.start()
    assert made.stop() == 0
    made.http.close()
    return made.directory


@pytest.fixture
def started_before(started_once: Path, tmp_path: Path) -> Iterator[Installation]:
    subprocess.run(["/bin/cp", "-a", f"{started_once}/.data", tmp_path], check=True)  # with its owners
    yield from _until_stopped(Installation(tmp_path))


def _until_stopped(made: Installation) -> Iterator[Installation]:
    yield made
    made.http.close()
    if made.process is not None and made.process.poll() is None:
        made.stop()
