"""`billing-proxy audit`: what it prints, and the code with which it ends."""

import json
import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.installation import Installation
from tests.harness.postgres import Database, Databases
from tests.harness.proxy import COMMAND, free_port
from tests.ledger.calls import Payer, make_payer
from tests.ledger.replica import Replica

RIGHT = "The books are right."


@pytest.fixture
def db(databases: Databases) -> Iterator[Database]:
    with databases.fresh() as database:
        yield database


@pytest.fixture
def payer(db: Database) -> Payer:
    """Has three calls behind them."""
    replica = Replica(db.url)
    made = make_payer(db, credit="10")
    replica.settle(*(made.call("1") for _ in range(3)))
    replica.close()
    return made


def change(db: Database) -> None:
    db.execute("UPDATE aigcspace.api_call_log SET bill = bill + 1")


def test_right_books(installation: Installation, db: Database, payer: Payer) -> None:
    audited = installation.run("audit", DATABASE_URL=db.url)

    assert (audited.returncode, audited.stderr) == (0, "")
    assert RIGHT in audited.stdout
    assert "1 account, 3 rows, 0 calls in flight" in audited.stdout


def test_no_accounts(installation: Installation, db: Database) -> None:
    audited = installation.run("audit", DATABASE_URL=db.url)

    assert audited.returncode == 0
    assert "There are no accounts yet." in audited.stdout


def test_differences_are_listed_with_what_each_number_is(installation: Installation, db: Database, payer: Payer) -> None:
    change(db)

    audited = installation.run("audit", DATABASE_URL=db.url)

    assert (audited.returncode, audited.stderr) == (1, "")
    assert f"  {payer.user_id}; sum of bills: 6.0000; account.billed: 3.0000\n" in audited.stdout
    assert RIGHT not in audited.stdout


def test_twenty_of_a_kind_are_listed(installation: Installation, db: Database, payer: Payer) -> None:
    for number in range(22):
        make_payer(db)
        db.execute("UPDATE aigcspace.account SET written_off = $1", number + 1)

    audited = installation.run("audit", DATABASE_URL=db.url)

    assert audited.stdout.count("sum of write-offs: 0") == 20
    assert "and 3 more" in audited.stdout


def test_names_of_others_do_not_reach_the_terminal_as_they_are(installation: Installation, db: Database, payer: Payer) -> None:
    db.execute("UPDATE aigcspace.api_call_log SET model_name = '[bold]\x1b[2J'")

    audited = installation.run("audit", DATABASE_URL=db.url)

    assert audited.returncode == 1
    assert "[bold]�[2J" in audited.stdout
    assert "\x1b" not in audited.stdout


def test_json(installation: Installation, db: Database, payer: Payer) -> None:
    right = installation.run("audit", "--json", DATABASE_URL=db.url)
    change(db)
    wrong = installation.run("audit", "--json", DATABASE_URL=db.url)

    assert (right.returncode, wrong.returncode) == (0, 1)
    report = json.loads(right.stdout)
    assert (report["differing"], report["users"], report["rows"], report["oldest_hold"]) == (0, 1, 3, None)
    checks = {check["name"]: check for check in json.loads(wrong.stdout)["checks"]}
    assert checks["billed"]["differences"] == [{"subject": payer.user_id, "expected": "6.0000", "found": "3.0000"}]
    assert checks["spent"]["differing"] == 0


def test_a_bar_on_a_terminal(installation: Installation, db: Database, payer: Payer) -> None:
    ours, theirs = pty.openpty()
    environment = installation.environment | {"DATABASE_URL": db.url, "TERM": "xterm"}
    command = [*COMMAND, "audit"]
    audited = subprocess.run(
        command, cwd=installation.directory, env=environment, stdout=subprocess.PIPE, stderr=theirs, timeout=40, check=False
    )
    os.close(theirs)

    assert b"Reading the call log" in os.read(ours, 65536)
    os.close(ours)
    assert RIGHT in audited.stdout.decode()


class TestNotAudited:
    def assert_told(self, audited: subprocess.CompletedProcess[str], *told: str) -> None:
        assert (audited.returncode, audited.stdout) == (2, "")
        assert audited.stderr.startswith("billing-proxy: ")
        assert audited.stderr.count("\n") == 1, audited.stderr
        assert all(part in audited.stderr for part in told), audited.stderr
        assert "hunter2" not in audited.stderr

    def test_the_database_is_away(self, installation: Installation) -> None:
        url = f"postgresql+asyncpg://nobody:hunter2@127.0.0.1:{free_port()}/none"
        self.assert_told(installation.run("audit", DATABASE_URL=url), "can't be audited", "Connect call failed")

    def test_there_is_no_such_database(self, installation: Installation, db: Database) -> None:
        self.assert_told(installation.run("audit", DATABASE_URL=db.url.replace("proxy_test", "no_such")), "does not exist")

    def test_the_database_is_not_migrated(self, installation: Installation, databases: Databases) -> None:
        with databases.fresh(migrated=False) as empty:
            self.assert_told(installation.run("audit", "--json", DATABASE_URL=empty.url), "billing-proxy migrate")

    def test_a_setting_makes_no_sense(self, installation: Installation) -> None:
        self.assert_told(installation.run("audit", DATABASE_URL="postgresql://localhost/x"), "DATABASE_URL")

    def test_there_is_no_embedded_database_and_none_is_made(self, installation: Installation) -> None:
        self.assert_told(installation.run("audit"), "there is no database in DATA_DIR (.data)")
        assert not Path(installation.directory, ".data").exists()


def test_the_embedded_database_is_audited_while_it_serves_and_when_it_does_not(installation: Installation) -> None:
    installation.start()
    assert installation.call().status_code == 200
    serving = installation.run("audit")
    installation.stop()

    stopped = installation.run("audit")

    for audited in (serving, stopped):
        assert (audited.returncode, audited.stderr) == (0, "")
        assert RIGHT in audited.stdout
        assert "1 row, 0 calls in flight" in audited.stdout
