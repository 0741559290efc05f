"""`/logs` oldest first, its totals, `/logs/stats`, `/logs/live` and `/logs/export`, as operators and callers ask for them."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import make_url

from app.api.log_reports import Stats
from app.spreadsheet import as_text
from tests.harness.admin import Admin
from tests.harness.background import Background
from tests.harness.books import wait_until
from tests.harness.postgres import connect
from tests.harness.scene import Scene

FORMULA = '=HYPERLINK("http://example.com","click")'
FORMULAS = ("\uff1d1+1", "\n=1+1", "\t=1+1", "\r=1+1", "@SUM(A1)", "+1", "-1")
INSERT = "INSERT INTO aigcspace.api_call_log (user_id, model_name, is_local, input_tokens, output_tokens, bill, status) "
VALUES = "VALUES ($1, 'slow', false, 0, 0, 0, 'success')"


@pytest.fixture
def called(scene: Scene) -> Scene:
    scene.post(scene.chat("first"))
    scene.post(scene.chat("second", user=FORMULA))
    scene.post(scene.chat("too dear", max_tokens=100_000_000))
    assert len(scene.rows()) == 3
    return scene


def test_oldest_first_and_on_from_where_it_ended(called: Scene, admin: Admin) -> None:
    asked = {"user_id": called.user, "order": "oldest", "limit": 2}
    first = admin.ask("GET", "/logs", params=asked)
    second = admin.ask("GET", "/logs", params=asked | {"cursor": first["next_cursor"]})
    assert second["next_cursor"] is None
    called.post(called.chat("later"))
    later = admin.ask("GET", "/logs", params=asked | {"cursor": second["last_cursor"]})

    seen = [row["id"] for page in (first, second, later) for row in page["data"]]
    assert seen == [row["id"] for row in called.rows()]
    assert admin.http.get("/logs", params={"cursor": first["next_cursor"]}).status_code == 422


def test_oldest_first_does_not_run_ahead_of_a_row_that_is_not_committed(called: Scene, admin: Admin, background: Background) -> None:
    slow = background.run(connect(make_url(called.db.url)))
    asked = {"user_id": called.user, "order": "oldest"}
    try:
        background.run(slow.execute("BEGIN"))
        background.run(slow.execute(INSERT + VALUES, called.user))
        called.post(called.chat("overtakes it"))
        before = admin.ask("GET", "/logs", params=asked)
        background.run(slow.execute("COMMIT"))
    finally:
        background.run(slow.close())
    after = admin.ask("GET", "/logs", params=asked | {"cursor": before["last_cursor"]})

    assert [row["model_name"] for row in after["data"]] == ["slow", called.model]
    assert len(before["data"]) == 3
    called.db.execute("DELETE FROM aigcspace.api_call_log WHERE user_id = $1 AND model_name = 'slow'", called.user)


def test_totals(called: Scene, admin: Admin) -> None:
    asked = {"user_id": called.user, "limit": 1}
    told = {total: admin.ask("GET", "/logs", params=asked | {"total": total}) for total in ("exact", "estimated", "none")}
    assert (told["exact"]["total"], told["exact"]["total_is_exact"]) == (3, True)
    assert (told["estimated"]["total"], told["estimated"]["total_is_exact"]) == (3, True), "a small log is counted"
    assert (told["none"]["total"], told["none"]["total_is_exact"]) == (None, None)
    whole = admin.ask("GET", "/logs", params={"user_id": called.user})
    assert (whole["total"], whole["total_is_exact"]) == (3, True)


def test_stats_are_sums_of_the_rows(called: Scene, admin: Admin) -> None:
    answer = admin.ask("GET", "/logs/stats", params={"user_id": called.user, "group_by": ["model", "status"], "interval": "day"})
    Stats.model_validate(answer)
    rows = called.rows()
    found = {group["status"]: group for group in answer["data"]}

    assert {status: group["calls"] for status, group in found.items()} == {"success": 2, "failed": 1}
    assert {group["model"] for group in found.values()} == {called.model}
    assert found["failed"]["failures"] == 1
    assert Decimal(found["success"]["charge"]) == sum(row["charge"] for row in rows)
    assert found["success"]["input_tokens"] == sum(row["input_tokens"] for row in rows if row["status"] == "success")
    latencies = sorted(row["latency_ms"] for row in rows if row["status"] == "success")
    assert abs(found["success"]["latency_ms"]["p99"] - latencies[-1]) <= max(1, 0.05 * latencies[-1])


def test_stats_by_end_user_and_of_a_key(called: Scene, admin: Admin) -> None:
    since = {"created_from": (datetime.now(UTC) - timedelta(days=1)).isoformat()}
    by_end_user = admin.ask("GET", "/logs/stats", params={"user_id": called.user, "group_by": "end_user"} | since)
    other = admin.add_key(called.user)
    own = called.http.get("/logs/stats").json()["data"]
    none = called.http.get("/logs/stats", headers={"Authorization": f"Bearer {other['key']}"}).json()["data"]

    assert {group["end_user"]: group["calls"] for group in by_end_user["data"]} == {None: 2, FORMULA: 1}
    assert [group["calls"] for group in own] == [3]
    assert none == []


def test_what_goes_on(called: Scene) -> None:
    told = called.http.get("/logs/live").json()
    assert told["calls_per_minute"] == 3
    assert told["failures_per_minute"] == 1
    assert told["tokens_per_minute"] == sum(row["input_tokens"] + row["output_tokens"] for row in called.rows())
    assert told["in_flight"] == 0


@pytest.mark.parametrize(
    "wrong", [{"interval": "year"}, {"time_zone": "Mars/Olympus"}, {"group_by": "colour"}, {"group_by": "end_user"}, {"interval": "minute"}]
)
def test_stats_that_make_no_sense(called: Scene, admin: Admin, wrong: dict[str, str]) -> None:
    old = {"created_from": "2020-01-01"} if wrong.keys() <= {"group_by", "interval"} else {}
    answer = admin.http.get("/logs/stats", params=wrong | old)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


def test_an_export_as_csv_is_all_rows_and_no_formula(called: Scene, admin: Admin) -> None:
    answer = admin.http.get("/logs/export", params={"user_id": called.user, "bom": "true"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.content.startswith(b"\xef\xbb\xbf")
    rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))
    stored = called.rows()

    assert [row["request_id"] for row in rows] == [str(row["request_id"]) for row in stored]
    assert [Decimal(row["charge"]) for row in rows] == [row["charge"] for row in stored]
    assert rows[1]["end_user"] == "'" + FORMULA
    assert rows[0]["created_at"] == f"{stored[0]['created_at']:%Y-%m-%dT%H:%M:%S.%fZ}"
    assert rows[0]["settled_at"] == f"{stored[0]['settled_at'].astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
    assert rows[0]["amended_at"] == ""


def test_no_text_of_an_export_is_a_formula_however_it_is_written(scene: Scene, admin: Admin) -> None:
    texts = [*FORMULAS, "1=1", "\uff11", "'=1", ""]
    try:
        for text in texts:
            scene.db.execute(INSERT + "VALUES ($1, $2, false, 0, 0, 0, 'success')", scene.user, text)
        exported = admin.http.get("/logs/export", params={"user_id": scene.user}).content.decode()
    finally:
        scene.db.execute("DELETE FROM aigcspace.api_call_log WHERE user_id = $1 AND request_id IS NULL", scene.user)

    found = [row["model_name"] for row in csv.DictReader(io.StringIO(exported, newline=""))]
    assert found == [as_text(text) for text in texts]
    assert found[: len(FORMULAS)] == [f"'{text}" for text in FORMULAS]


def test_an_export_as_ndjson_goes_on_after_a_row(called: Scene, admin: Admin) -> None:
    first, *rest = admin.http.get("/logs/export", params={"user_id": called.user, "format": "ndjson"}).text.splitlines()
    again = admin.http.get("/logs/export", params={"user_id": called.user, "format": "ndjson", "cursor": json.loads(first)["id"]})

    assert again.text.splitlines() == rest
    assert [json.loads(line)["end_user"] for line in rest] == [FORMULA, None]
    assert json.loads(first)["charge"] == f"{called.rows()[0]['charge']:f}"
    assert json.loads(first)["settled_at"] == f"{called.rows()[0]['settled_at'].astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
    assert admin.http.get("/logs/export", params={"cursor": 2**62}).status_code == 422


def test_an_export_shows_a_key_its_own_rows(called: Scene, admin: Admin) -> None:
    other = admin.add_key(called.user)
    own = called.http.get("/logs/export", params={"format": "ndjson"}).text.splitlines()
    none = called.http.get("/logs/export", params={"format": "ndjson"}, headers={"Authorization": f"Bearer {other['key']}"})
    assert (len(own), none.text) == (3, "")


def test_an_export_ends_with_its_client(called: Scene, admin: Admin) -> None:
    called.db.execute(
        INSERT + "SELECT $1, repeat('m', 250), false, 0, 0, 0, 'success' FROM generate_series(1, 50000)",
        called.user,
    )
    under_way = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'billing-proxy export' AND datname = current_database()"
    with admin.http.stream("GET", "/logs/export", params={"user_id": called.user, "format": "ndjson"}) as answer:
        pieces = answer.iter_bytes()  # which closes the connection when it is gone
        first = next(pieces)
        assert answer.status_code == 200, first
        assert called.db.value(under_way) == 1, first
    wait_until(lambda: called.db.value(under_way) == 0, what="the export's connection is closed")
    called.db.execute("DELETE FROM aigcspace.api_call_log WHERE user_id = $1 AND request_id IS NULL", called.user)


def test_a_long_answer_of_stats_is_compressed_for_who_takes_it(scene: Scene, admin: Admin) -> None:
    planted = "SELECT $1, 'planted-' || n, false, 1, 1, 0, 'success', gen_random_uuid(), now(), now() FROM generate_series(1, 60) n"
    columns = "(user_id, model_name, is_local, input_tokens, output_tokens, bill, status, request_id, created_at, settled_at)"
    scene.db.execute(f"INSERT INTO aigcspace.api_call_log {columns} {planted}", scene.user)
    try:
        asked = {
            "user_id": scene.user,
            "group_by": ["model", "end_user"],
            "created_from": (datetime.now(UTC) - timedelta(days=1)).isoformat(),
        }
        plain, packed = (
            admin.http.get("/logs/stats", params=asked, headers={"Accept-Encoding": taken}) for taken in ("identity", "gzip, deflate")
        )
        assert (plain.headers.get("content-encoding"), packed.headers["content-encoding"]) == (None, "gzip")
        assert plain.json()["data"] == packed.json()["data"]
        assert int(packed.headers["content-length"]) * 5 < int(plain.headers["content-length"])
    finally:
        scene.db.execute("DELETE FROM aigcspace.api_call_log WHERE user_id = $1", scene.user)
