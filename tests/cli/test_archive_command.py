"""`billing-proxy logs archive`: what it prints, and the code with which it ends."""

import json
from pathlib import Path

from tests.harness.installation import Installation
from tests.harness.postgres import Database
from tests.ledger.calls import make_payer
from tests.ledger.replica import Replica
from tests.ledger.sums import sum_up_periods


def test_old_rows_go_to_files_and_the_books_stay_right(installation: Installation, db: Database, tmp_path: Path) -> None:
    replica = Replica(db.url)
    payer = make_payer(db, credit="10")
    replica.settle(*(payer.call("1") for _ in range(3)))
    replica.close()
    for table, column in (("api_call_log", "created_at"), ("api_call_log", "settled_at"), ("usage_hourly", "hour")):
        db.execute(f"UPDATE aigcspace.{table} SET {column} = {column} - interval '100 days'")
    sum_up_periods(db)
    db.execute("UPDATE aigcspace.account SET created_at = created_at - interval '100 days'")
    month = str(db.value("SELECT to_char(min(created_at), 'YYYY-MM') FROM aigcspace.api_call_log"))
    before = str(db.value("SELECT (now() - interval '31 days')::date"))

    young = installation.run("logs", "archive", "--before", "2999-01-01", "--to", str(tmp_path), DATABASE_URL=db.url)
    nowhere = installation.run("logs", "archive", "--before", before, "--to", str(tmp_path / "none"), DATABASE_URL=db.url)
    archived = installation.run("logs", "archive", "--before", before, "--to", str(tmp_path), DATABASE_URL=db.url)
    audited = installation.run("audit", "--json", DATABASE_URL=db.url)

    assert (young.returncode, young.stdout) == (1, "")
    assert "younger than 30 days stay" in young.stderr
    assert (nowhere.returncode, "is no directory" in nowhere.stderr) == (1, True)
    assert (archived.returncode, archived.stdout, archived.stderr) == (0, f"Archived 3 rows to {tmp_path}\n", "")
    assert [file.name for file in tmp_path.iterdir()] == [f"api_call_log-{month}-00001.ndjson.zst"]
    report = json.loads(audited.stdout)
    assert (audited.returncode, report["rows"], report["archived"], report["differing"]) == (0, 0, 3, 0)
