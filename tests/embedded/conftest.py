"""The program with its own PostgreSQL, from the first start to the last stop: `make test-embedded`. Data directories, and servers on
them that end with the test."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from app.runtime.postgres import EmbeddedPostgres
from tests.embedded.servers import OWNER, Own, Start, end_orphan
from tests.harness.installed import installation, started_before, started_once  # noqa: F401


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a first start made; the tests that are about later starts get a copy, which is faster than their own."""
    place = tmp_path_factory.mktemp("made") / "data"
    EmbeddedPostgres.start(place).stop()
    return place


@pytest.fixture
def data_dir(made: Path, tmp_path: Path) -> Path:
    subprocess.run(["cp", "-a", made, tmp_path / "data"], check=True)
    return tmp_path / "data"


@pytest.fixture
def owner() -> Iterator[Own]:
    """Starts a server in another process, which lives until the test ends it."""
    with ExitStack() as stack:

        def started(data_dir: Path) -> "subprocess.Popen[str]":
            process = subprocess.Popen([sys.executable, "-c", OWNER, str(data_dir)], stdout=subprocess.PIPE, text=True)
            stack.callback(end_orphan, data_dir)
            stack.callback(process.communicate)
            stack.callback(process.kill)
            return process

        yield started


@pytest.fixture
def start(owner: Own) -> Iterator[Start]:
    """Needs `owner` so that its servers are stopped before those of `owner` are swept up."""
    with ExitStack() as stack:

        def started(data_dir: Path) -> EmbeddedPostgres:
            server = EmbeddedPostgres.start(data_dir)
            stack.callback(server.stop)
            return server

        yield started
