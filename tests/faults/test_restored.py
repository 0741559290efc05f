"""A backup that was made under load is restored into an empty database, and what the spool has is replayed: the books are
right, with all that the backup had, and all that was in flight when the database was lost."""

import subprocess
from pathlib import Path

import pytest
from sqlalchemy import make_url

from app.runtime.postgres_cluster import Programs
from tests.faults.test_database_away import LEASE, SETTINGS, spooled, streams, wait_spools_empty
from tests.harness import scene as scenes
from tests.harness.admin import Admin
from tests.harness.books import wait_until
from tests.harness.database_relay import DatabaseRelay
from tests.harness.fault_books import assert_books
from tests.harness.load import Load
from tests.harness.postgres import Database, Databases
from tests.harness.proxy import Proxy

HELD = 2


@pytest.fixture
def programs(db: Database) -> Path:
    """PostgreSQL's own, of the server's version."""
    version, shipped = int(db.value("SHOW server_version_num")) // 10_000, Programs.shipped()
    found = shipped.bin if version == shipped.version[0] else Path(f"/usr/lib/postgresql/{version}/bin")
    if not (found / "pg_dump").exists():
        pytest.skip(f"there is no pg_dump {version}")
    return found


def run(program: Path, *arguments: str, url: str) -> None:
    """As `docs/operations.md` has it."""
    where = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    subprocess.run([program, *arguments, "--dbname", where], check=True, timeout=60)


@pytest.mark.timeout(180)
def test_a_backup_is_restored_and_the_spool_replayed(db: Database, databases: Databases, programs: Path, tmp_path: Path) -> None:
    dump, data = tmp_path / "backup", tmp_path / "data"
    with DatabaseRelay(db.url) as relay:
        lost = Proxy(database_url=relay.url, directory=tmp_path, DATA_DIR=str(data), **SETTINGS).wait_ready()
        with Admin(lost.url) as admin, scenes.scene(lost, admin, db) as scene:
            with streams(scene, [lost.url] * HELD) as held:
                with Load(lost.url, key=scene.key, model=scene.model, in_flight=4) as load:
                    wait_until(lambda: load.successes > 10, what="a load")
                    before = [seen.request_id for seen in list(load.seen) if seen.is_success]
                    run(programs / "pg_dump", "--format", "custom", "--file", str(dump), url=db.url)
                    after = load.successes
                    wait_until(lambda: load.successes > after + 5, what="calls after the backup")
                relay.refuse()
                finished = [stream.finish() for stream in held]
            assert all(seen.is_success for seen in finished), finished
            assert spooled(data)
            assert lost.stop() == 0

            with databases.fresh(migrated=False) as restored:
                run(programs / "pg_restore", "--exit-on-error", "--no-owner", str(dump), url=restored.url)
                found = Proxy(database_url=restored.url, directory=tmp_path, DATA_DIR=str(data), **SETTINGS).wait_ready()
                wait_spools_empty(data)

                assert_books(restored, at_rest_within=10 * LEASE + 20)
                rows = {str(row["request_id"]): row for row in restored.fetch("SELECT * FROM aigcspace.api_call_log")}
                assert {str(row) for row in before} <= rows.keys()
                assert [rows[str(seen.request_id)]["output_tokens"] for seen in finished] == [
                    (seen.usage or {})["completion_tokens"] for seen in finished
                ]
                assert not spooled(data)
                assert scene.post(scene.chat(), f"{found.url}/v1/chat/completions").status_code == 200
                assert found.stop() == 0
                assert_books(restored)
