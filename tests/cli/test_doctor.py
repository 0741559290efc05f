"""`billing-proxy doctor`: what is wrong is found, and said with what to do."""

import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from app import logs
from app.cli.main import cli
from app.ledger.segment import SUFFIX, Segment
from tests.harness.postgres import Database, Databases
from tests.harness.proxy import SECRET_KEY

Finding = dict[str, str]
Examine = Callable[..., list[Finding]]

HOLD = """
    WITH made AS (INSERT INTO aigcspace.users (id) VALUES ('gone') RETURNING id)
    INSERT INTO aigcspace.call_hold (request_id, user_id, api_key_id, instance_id, amount, tokens, open_ended, entry)
    SELECT gen_random_uuid(), id, 1, gen_random_uuid(), 2, 1, false, '{}' FROM made
"""
UPSTREAM = "INSERT INTO aigcspace.upstream (name, base_url{}) VALUES ('u', 'http://127.0.0.1:9'{}) RETURNING id"
ROUTE = "INSERT INTO aigcspace.model_route (upstream_id, pattern) SELECT id, 'free' FROM aigcspace.upstream"
AHEAD = """
    INSERT INTO aigcspace.users (id) VALUES ('u');
    INSERT INTO aigcspace.api_call_log (user_id, model_name, is_local, input_tokens, output_tokens, bill, status, created_at)
    VALUES ('u', 'm', false, 0, 0, 0, 'success', now() AT TIME ZONE 'UTC' + interval '8 hours')
"""


@pytest.fixture
def own(databases: Databases) -> Iterator[Database]:
    with databases.fresh() as database:
        yield database


@pytest.fixture
def examine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Examine:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logs, "configure", lambda _: None)  # it would outlive the test
    strong = secrets.token_urlsafe(32)

    def look(database: Database, *, well: bool, **settings: str) -> list[Finding]:
        environment = {"DATABASE_URL": database.url, "SECRET_KEY": SECRET_KEY, "ADMIN_TOKEN": strong, **settings}
        with capture_logs():
            done = CliRunner().invoke(cli, ["doctor", "--json"], env=environment)
        assert done.exit_code == (0 if well else 1), (done.output, done.exception)
        told = json.loads(done.stdout)
        assert told["ok"] is well
        return [finding for finding in told["findings"] if finding["state"] != "ok"]

    return look


def test_a_new_installation_is_well(own: Database, examine: Examine) -> None:
    [no_upstream] = examine(own, well=True)
    assert no_upstream["says"] == "there is no upstream that serves"


@pytest.mark.parametrize(
    ("broken", "settings", "state", "says", "do"),
    [
        ("DROP INDEX aigcspace.idx_api_call_log_created_at", {}, "wrong", "idx_api_call_log_created_at", "CREATE INDEX CONCURRENTLY"),
        ("ALTER TABLE aigcspace.model_price DISABLE TRIGGER ALL", {}, "wrong", "are disabled", "ENABLE TRIGGER"),
        ("ALTER TABLE aigcspace.users ADD email TEXT NOT NULL", {}, "warning", "has email NOT NULL", "defaults"),
        ("ALTER TABLE aigcspace.api_call_log ADD region TEXT NOT NULL", {}, "wrong", "column region is NOT NULL", "default"),
        ("UPDATE aigcspace.billing_proxy_version SET version_num = '0001'", {}, "wrong", "the database is at 0001", "migrate"),
        (HOLD, {}, "warning", "1 calls of processes that have died hold 2", "start a proxy"),
        (f"{UPSTREAM.format('', '').partition(' RETURNING')[0]}; {ROUTE}", {}, "wrong", "want of a price: free", "prices set"),
        (UPSTREAM.format(", secret", ", '\\x00'"), {}, "wrong", "doesn't read the secrets of u", "SECRET_KEY_OLD"),
        (UPSTREAM.format("", ""), {}, "wrong", "can't be reached", "check its address"),
        (
            "INSERT INTO aigcspace.model_price (model_name, rates) VALUES ('lost', '{\"input\": \"1\"}')",
            {},
            "warning",
            "served by no upstream: lost",
            "add them",
        ),
        (AHEAD, {}, "warning", "8.0 h ahead of UTC", "LOG_TIME_ZONE"),
        ("SELECT 1", {"ADMIN_TOKEN": "a" * 30}, "warning", "ADMIN_TOKEN could be guessed", "openssl"),
        ("SELECT 1", {"WORKERS": "60"}, "wrong", "1320 connections are needed", "WORKERS"),
        ("SELECT 1", {"PLATFORM_KEY_COLUMN": "api_key"}, "wrong", "no column 'api_key'", "PLATFORM_KEY_COLUMN"),
        ("SELECT 1", {"PLATFORM_KEY_COLUMN": "name"}, "wrong", "the index of 'name' is missing", "migrate"),
        ("SELECT 1", {"PORT": "many"}, "wrong", "PORT: ", "correct it"),
    ],
)
def test_what_is_wrong_is_said_with_what_to_do(
    own: Database, examine: Examine, broken: str, settings: dict[str, str], state: str, says: str, do: str
) -> None:
    own.execute(broken)
    found = examine(own, well=state == "warning", **settings)
    assert [one for one in found if one["state"] == state and says in one["says"] and do in one["do"]], found


def test_a_database_that_is_away_is_said(own: Database, examine: Examine) -> None:
    found = examine(own, well=False, DATABASE_URL="postgresql+asyncpg://nobody@127.0.0.1:9/none")
    assert [one["area"] for one in found] == ["database"]


def test_records_that_wait_and_a_torn_end_are_told(own: Database, examine: Examine, tmp_path: Path) -> None:
    directory = tmp_path / ".data" / "spool"
    segment = Segment.create(directory)
    segment.write(b"\x00\x00\x00\x09torn")
    segment.release()
    (directory / f"{uuid4()}{SUFFIX}").write_bytes(b"of another version")
    says = [one["says"] for one in examine(own, well=False) if one["area"] == "spool"]
    assert any("records of calls wait" in one for one in says)
    assert any("its end is torn" in one for one in says)
    assert any("can't be read" in one for one in says)
