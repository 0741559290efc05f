"""Commands beside a process that runs the embedded server: they work on that one, since nobody can start a second."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.runtime.postgres import EmbeddedPostgres
from tests.harness.installation import Installation

COMMANDS = {
    ("migrate",): "The database is up to date.",
    ("demo", "remove"): "There is no demo here.",
    ("audit",): "The books are right.",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory whose `.data` has a server that runs."""
    made = tmp_path_factory.mktemp("beside")
    server = EmbeddedPostgres.start(made / ".data")
    yield made
    server.stop()


def test_every_command_works_on_the_server_that_runs(place: Path) -> None:
    for command, told in COMMANDS.items():
        done = Installation(place).run(*command)
        assert (done.returncode, done.stderr) == (0, ""), command
        assert told in done.stdout


def test_only_migrate_makes_a_database(installation: Installation) -> None:
    for command in (("demo", "remove"), ("audit",)):
        refused = installation.run(*command)
        assert refused.returncode != 0
        assert "there is no database in DATA_DIR (.data); `billing-proxy migrate` makes one" in refused.stderr
        assert not (installation.directory / ".data").exists()
