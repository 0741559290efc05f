"""The archive: old rows are in files, each once, whatever interrupts; what they came to stays where it was."""

import io
import json
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import zstandard

from app.database import Database as Engine
from app.errors import NotFound
from app.ledger import archive as archive_module
from app.ledger.archive import Archive
from app.ledger.archive_file import ArchiveFailed
from app.ledger.audit import audit
from app.ledger.segment import OPENING, framed
from app.reports.statement import Statement
from tests.harness.background import Background
from tests.harness.books import wait_until
from tests.harness.postgres import Database, Databases
from tests.ledger.calls import Call, Payer, account, make_payer, rows
from tests.ledger.payments import posting, refunding
from tests.ledger.replica import Replica
from tests.ledger.sums import sum_up_periods
from tests.ledger.test_statements import stated

AGED = (
    ("api_call_log", "created_at"),
    ("api_call_log", "settled_at"),
    ("usage_hourly", "hour"),
    ("credit_entry", "created_at"),
    ("account", "created_at"),
)
ZONES = ("UTC", "Asia/Kolkata", "Asia/Kathmandu", "America/New_York")
Run = Callable[..., int]


class Killed(Exception):
    """Stands for whatever ends the process at a point."""


@pytest.fixture
def db(databases: Databases) -> Iterator[Database]:
    """One for each test: an archive is about the whole of it."""
    with databases.fresh() as database:
        yield database


@pytest.fixture
def ledger(db: Database) -> Iterator[Replica]:
    replica = Replica(db.url)
    yield replica
    replica.close()


@pytest.fixture
def run(db: Database, background: Background, tmp_path: Path) -> Run:
    def archive(*, before: datetime | None = None, directory: Path = tmp_path) -> int:
        before = before or db.value("SELECT now()::timestamp - interval '31 days'")
        return background.run(Archive(db.url, before=before, directory=directory, progress=lambda done, total: None).run())

    return archive


@pytest.fixture
def books(db: Database, background: Background) -> Callable[[], dict[str, int]]:
    """What the audit finds: differences by check."""

    def differing() -> dict[str, int]:
        report = background.run(audit(Engine(db.url), lease=30.0))
        return {check.name: check.differing for check in report.checks if check.differing}

    return differing


@pytest.fixture
def payer(ledger: Replica, db: Database) -> Payer:
    """Has eight calls behind them, one of them partly written off, that were a hundred days ago, and one of today."""
    made = make_payer(db, credit="30")
    calls = [made.call(f"1.{number:05}") for number in range(7)]
    calls.append(made.call("40", ceiling=Decimal(1)))
    ledger.hold(*calls)
    for call in calls:
        ledger.settle(call)
    ledger.run(posting(ledger, made.user_id, "5"))
    age(db, "100 days")
    young = made.call("0")
    ledger.settle(young)
    return made


def age(db: Database, interval: str) -> None:
    for table, column in AGED:
        db.execute(f"UPDATE aigcspace.{table} SET {column} = {column} - interval '{interval}'")
    sum_up_periods(db)


def archived(directory: Path) -> list[dict[str, Any]]:
    """All rows of all files, in the order in which they were written."""
    found = []
    for file in sorted(directory.glob("*.ndjson.zst"), key=lambda path: path.stat().st_mtime_ns):
        with file.open("rb") as packed, zstandard.ZstdDecompressor().stream_reader(packed) as lines:
            found += [json.loads(line) for line in io.TextIOWrapper(lines)]
    return found


def old(db: Database) -> list[str]:
    found = db.fetch("SELECT request_id FROM aigcspace.api_call_log WHERE created_at < now() - interval '60 days' ORDER BY created_at, id")
    return [str(row["request_id"]) for row in found]


def of_month(statement: Statement) -> tuple[Any, ...]:
    return statement.opening_balance, statement.usage, statement.billed, statement.written_off, statement.closing_balance


def test_old_rows_are_in_files_and_nowhere_else(
    payer: Payer, db: Database, run: Run, books: Callable[[], dict[str, int]], tmp_path: Path
) -> None:
    before, kept, expected = rows(db, payer.user_id), account(db, payer.user_id), old(db)

    assert run() == 8

    found = archived(tmp_path)
    assert [row["request_id"] for row in found] == expected
    first = next(row for row in before if str(row["request_id"]) == expected[0])
    assert {name: found[0][name] for name in ("id", "user_id", "api_key_id", "model_name", "api")} == {
        name: first[name] for name in ("id", "user_id", "api_key_id", "model_name", "api")
    }
    assert (found[0]["bill"], found[0]["charge"]) == (f"{first['bill']:f}", f"{first['charge']:f}")
    assert len(rows(db, payer.user_id)) == 1
    assert account(db, payer.user_id) == kept
    assert books() == {}
    assert run() == 0


def test_statements_stay_to_the_digit_in_any_zone(payer: Payer, ledger: Replica, db: Database, run: Run) -> None:
    """The rows lie about the first of a month, less than an hour apart."""
    first = db.value("SELECT date_trunc('month', now() - interval '70 days', 'UTC')")
    moments = [first + timedelta(minutes=minutes) for minutes in (-346, -344, -331, -329, -1, 1, 239, 301)]
    for row, moment in zip([row for row in rows(db, payer.user_id) if row["bill"]], moments, strict=True):
        db.execute("UPDATE aigcspace.api_call_log SET settled_at = $2, created_at = $2 AT TIME ZONE 'UTC' WHERE id = $1", row["id"], moment)
    db.execute("DELETE FROM aigcspace.usage_hourly")
    db.execute("""
        INSERT INTO aigcspace.usage_hourly SELECT date_trunc('hour', settled_at, 'UTC'), user_id, api_key_id, model_name, 0, api, status,
        is_local, count(*), sum(input_tokens), sum(output_tokens), 0, 0, 0, sum(charge), sum(bill), sum(write_off)
        FROM aigcspace.api_call_log GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
    """)
    sum_up_periods(db)
    months = [(first - timedelta(days=5)).strftime("%Y-%m"), first.strftime("%Y-%m")]
    asked = [(month, zone) for month in months for zone in ZONES]
    before = [of_month(stated(ledger, payer.user_id, *each)) for each in asked]
    assert len({len(statement[1]) and statement[1][0].calls for statement in before}) > 3, "the zones divide them differently"

    assert run() == 8

    assert [of_month(stated(ledger, payer.user_id, *each)) for each in asked] == before


@pytest.mark.parametrize("point", ["written", "registered", "half deleted", "deleted"])
def test_what_was_interrupted_goes_on(
    payer: Payer, db: Database, run: Run, books: Callable[[], dict[str, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    expected = old(db)
    monkeypatch.setattr(archive_module, "FILE_ROWS", 5)
    monkeypatch.setattr(archive_module, "BATCH", 2)
    with monkeypatch.context() as breaking:
        break_at(breaking, point)
        with pytest.raises(Killed):
            run()
    assert books() == {}
    left = len(old(db))

    assert run() == left

    assert [row["request_id"] for row in archived(tmp_path)] == expected
    assert db.value("SELECT sum(rows) = 8 AND sum(deleted) = 8 AND bool_and(finished_at IS NOT NULL) FROM aigcspace.archive_file")
    assert old(db) == []
    assert books() == {}


def break_at(monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    write, delete, batches = archive_module.write_file, Archive._delete, []
    delete_batch = Archive._delete_batch

    def written(*arguments: Any) -> None:
        write(*arguments)
        raise Killed

    async def registered(*_: Any) -> None:
        raise Killed

    async def half(*arguments: Any) -> None:
        if batches:
            raise Killed
        batches.append(await delete_batch(*arguments))

    async def deleted(*arguments: Any) -> None:
        await delete(*arguments)
        raise Killed

    match point:
        case "written":
            monkeypatch.setattr(archive_module, "write_file", written)
        case "registered":
            monkeypatch.setattr(Archive, "_delete", registered)
        case "half deleted":
            monkeypatch.setattr(Archive, "_delete_batch", half)
        case "deleted":
            monkeypatch.setattr(Archive, "_delete", deleted)


def test_what_may_still_change_stays(payer: Payer, ledger: Replica, db: Database, run: Run) -> None:
    amended, orphan, held = rows(db, payer.user_id)[:3]
    for row, ended in ((amended, "now()"), (orphan, "NULL")):
        db.execute(
            f"UPDATE aigcspace.api_call_log SET end_reason = 'orphaned', amended_at = {ended}, settled_at = now() - interval '80 days'"
            " WHERE id = $1",
            row["id"],
        )
    ledger.hold(payer.call("0"))
    db.execute("UPDATE aigcspace.call_hold SET request_id = $1", held["request_id"])
    db.execute(
        """INSERT INTO aigcspace.api_call_log (user_id, model_name, is_local, input_tokens, output_tokens, bill, status, created_at)
        VALUES ($1, 'theirs', false, 1, 1, 3, 'success', '2020-01-01')""",
        payer.user_id,
    )

    assert run() == 6

    assert {row["id"] for row in rows(db, payer.user_id) if row["created_at"].year != 2020} >= {orphan["id"], held["id"]}
    assert db.value("SELECT count(*) FROM aigcspace.api_call_log WHERE model_name = 'theirs'") == 1
    db.execute("UPDATE aigcspace.api_call_log SET settled_at = now() - interval '91 days' WHERE id = $1", orphan["id"])
    assert run() == 1
    with pytest.raises(ArchiveFailed, match="younger than 30 days stay"):
        run(before=db.value("SELECT now()::timestamp - interval '29 days'"))


def test_a_row_that_changed_after_it_was_written_is_not_deleted(
    payer: Payer, db: Database, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as breaking:
        break_at(breaking, "registered")
        with pytest.raises(Killed):
            run()
    db.execute("UPDATE aigcspace.api_call_log SET bill = bill + 1 WHERE id = (SELECT min(id) FROM aigcspace.api_call_log)")

    with pytest.raises(ArchiveFailed, match="have changed"):
        run()

    assert len(old(db)) == 8
    assert db.value("SELECT count(*) FROM aigcspace.archived_usage") == 0


def test_a_file_that_is_not_what_was_written_deletes_nothing(
    payer: Payer, db: Database, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as breaking:
        break_at(breaking, "registered")
        with pytest.raises(Killed):
            run()
    [file] = tmp_path.glob("*.zst")
    whole = file.read_bytes()

    for damaged in (whole[:-20], whole[:60] + b"\0\0\0" + whole[63:]):
        file.write_bytes(damaged)
        with pytest.raises(ArchiveFailed, match="can't be read"):
            run()
    file.unlink()
    with pytest.raises(ArchiveFailed, match="is missing"):
        run()

    assert len(old(db)) == 8


def test_what_a_disk_lost_is_found_before_anything_is_deleted(
    payer: Payer, db: Database, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_one(path: Path, lines: Any, expected: Any) -> Any:
        return write(path, list(lines)[1:], expected)

    write = archive_module.write_file
    monkeypatch.setattr(archive_module, "write_file", without_one)
    with pytest.raises(ArchiveFailed, match="not what was written"):
        run()

    assert len(old(db)) == 8


def test_refunds_of_archived_calls_stay_proved(
    payer: Payer, ledger: Replica, db: Database, run: Run, books: Callable[[], dict[str, int]]
) -> None:
    row = rows(db, payer.user_id)[0]
    call = Call(payer.user_id, payer.key_id, Decimal(1), request_id=row["request_id"])
    ledger.run(refunding(ledger, call, "0.5"))

    assert run() == 8

    assert books() == {}
    with pytest.raises(NotFound):
        ledger.run(refunding(ledger, call, "0.5"))
    db.execute("UPDATE aigcspace.archived_usage SET refunded = 0")
    assert books() == {"refunds": 1}


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("UPDATE aigcspace.archived_usage SET bill = bill + 1", {"billed", "roll_ups"}),
        ("UPDATE aigcspace.archived_usage SET charge = charge + 1", {"spent", "key_spent", "roll_ups"}),
        ("UPDATE aigcspace.archived_usage SET calls = calls + 1", {"roll_ups", "archived"}),
        ("UPDATE aigcspace.archive_file SET deleted = deleted - 1", {"archived"}),
    ],
)
def test_sums_of_archived_rows_that_are_wrong(
    payer: Payer, db: Database, run: Run, books: Callable[[], dict[str, int]], change: str, found: set[str]
) -> None:
    run()
    db.execute(change)

    assert books().keys() == found


def test_a_deleted_key_and_a_purged_user_leave_right_books(
    payer: Payer, ledger: Replica, db: Database, run: Run, books: Callable[[], dict[str, int]]
) -> None:
    run()
    db.execute("DELETE FROM aigcspace.platform_api_key WHERE id = $1", payer.key_id)
    assert books() == {}
    db.execute("DELETE FROM aigcspace.users WHERE id = $1", payer.user_id)
    assert books() == {}


def test_a_call_that_is_archived_is_not_billed_again_by_a_late_record(payer: Payer, ledger: Replica, db: Database, run: Run) -> None:
    archived_one, young = rows(db, payer.user_id)[0], rows(db, payer.user_id)[-1]
    run()
    held = payer.call("0.25").using(late=True)
    ledger.hold(held)
    kept = account(db, payer.user_id)

    for row in (archived_one, young):
        ledger.settle(Call(payer.user_id, payer.key_id, Decimal(1), request_id=row["request_id"]).using(late=True))

    assert account(db, payer.user_id) == kept
    ledger.settle(held)
    assert account(db, payer.user_id)["spent"] == kept["spent"] + Decimal("0.25")


def test_old_records_of_a_spool_are_told_as_late(payer: Payer, db: Database, tmp_path: Path) -> None:
    """A machine comes back that was away for so long that what its last process had settled is archived."""
    young, long_ago = payer.call("0.25"), int((time.time() - 100 * 86_400) * 1000)
    settled = Call(payer.user_id, payer.key_id, Decimal(1), request_id=UUID(int=long_ago << 80 | 7 << 76 | 2 << 62))
    before = account(db, payer.user_id)["spent"]
    records = [framed(call.outcome().entry) for call in (settled, young)]
    (tmp_path / "left.spool").write_bytes(OPENING + b"".join(records))

    back = Replica(db.url, spool=tmp_path)
    try:
        wait_until(lambda: len(rows(db, payer.user_id)) == 10, what="the young one is there")
        assert account(db, payer.user_id)["spent"] == before + Decimal("0.25")
    finally:
        back.close()


def test_one_archives_at_a_time(payer: Payer, db: Database, run: Run) -> None:
    db.execute(f"SELECT pg_advisory_lock({archive_module._TURN})")
    with pytest.raises(ArchiveFailed, match="somebody else"):
        run()
