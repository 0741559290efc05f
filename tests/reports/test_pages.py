"""The pages of a listing, put together, are what one plain query finds, while rows are added all the time."""

from collections.abc import Callable
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import make_url

from app.database import Database as Connections
from app.paging import Page
from app.reports.calls import EVERYTHING, Call, CallFilters, PageAsked, count_calls, cursor_after, list_calls
from app.reports.horizon import earliest_to_come
from tests.harness.background import Background
from tests.harness.postgres import Database, connect
from tests.reports.rows import FILTERS, FURTHER, SINCE, Calls

SLOW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ASKED = st.tuples(FILTERS, FURTHER).map(lambda both: both[0] | both[1])


@pytest.fixture(scope="module")
def calls(db: Database) -> Calls:
    made = Calls(db)
    for _ in range(4):
        made.settle(50)
    made.spread()
    return made


def walk(db: Database, connections: Connections, filters: CallFilters, order: Any, limit: int, meanwhile: Callable[[], None]) -> list[int]:
    found, cursor = [], None
    while True:
        asked = PageAsked(visibility=EVERYTHING, filters=filters, zone="UTC", limit=limit, cursor=cursor, order=order)
        listed = db.run(listing(connections, asked))
        found += [row["id"] for row in listed.rows]
        cursor = listed.next_cursor
        if cursor is None:
            return found
        meanwhile()


def plainly(db: Database, filters: dict[str, Any], order: str, *, until: int | None = None) -> list[int]:
    conditions = "".join(f" AND {name} = ${number}" for number, name in enumerate(filters, 2))
    way = "" if order == "oldest" else "DESC"
    sql = f"SELECT id FROM aigcspace.api_call_log WHERE id <= $1 {conditions} ORDER BY created_at {way}, id {way}"
    return [row["id"] for row in db.fetch(sql, until or 2**62, *filters.values())]


@SLOW
@given(filters=ASKED, order=st.sampled_from(["newest", "oldest"]), limit=st.integers(1, 40), added=st.integers(0, 3))
def test_pages_miss_and_repeat_nothing(
    db: Database, connections: Connections, calls: Calls, filters: dict[str, Any], order: str, limit: int, added: int
) -> None:
    if "user_id" in filters:
        filters["user_id"] = calls.user(filters["user_id"])
    last = db.value("SELECT max(id) FROM aigcspace.api_call_log")
    before = plainly(db, filters, order, until=last)
    turns = iter(range(5))

    def add() -> None:
        if added and next(turns, None) is not None:
            calls.settle(added)

    found = walk(db, connections, CallFilters(**filters), order, limit, add)

    assert [one for one in found if one <= last] == before
    assert len(set(found)) == len(found)
    if order == "oldest":
        assert found == plainly(db, filters, order)[: len(found)]


@SLOW
@given(filters=ASKED)
def test_an_exact_total(db: Database, connections: Connections, calls: Calls, filters: dict[str, Any]) -> None:
    assert total(db, connections, filters, exact=True) == (len(plainly(db, filters, "newest")), True)


def test_an_estimated_total(db: Database, connections: Connections, calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small logs are counted, the others are not."""
    calls.settle(3)
    db.execute("ANALYZE aigcspace.api_call_log")
    exact = len(plainly(db, {}, "newest"))
    assert total(db, connections, {}, exact=False) == (exact, True)

    monkeypatch.setattr("app.reports.calls.COUNTED", 0)

    estimated, is_exact = total(db, connections, {}, exact=False)
    assert not is_exact
    assert estimated == pytest.approx(exact, rel=0.01), "the statistics are fresh"


def total(db: Database, connections: Connections, filters: dict[str, Any], *, exact: bool) -> tuple[int, bool]:
    async def count() -> tuple[int, bool]:
        async with connections.reading() as session:
            return await count_calls(session, visibility=EVERYTHING, filters=CallFilters(**filters), zone="UTC", exact=exact)

    return db.run(count())


def test_whoever_follows_gets_what_was_committed_late(db: Database, connections: Connections, calls: Calls, background: Background) -> None:
    """Two settle at once; the one that dates its rows first commits last."""
    user = calls.user("user-a")
    slow = background.run(connect(make_url(db.url)))
    try:
        background.run(slow.execute("BEGIN"))
        insert = (
            "INSERT INTO aigcspace.api_call_log (user_id, model_name, is_local, input_tokens, output_tokens, bill, status, created_at) "
        )
        now = "clock_timestamp() AT TIME ZONE 'UTC'"
        background.run(slow.execute(f"{insert} VALUES ($1, 'late', false, 0, 0, 0, 'success', {now})", user))
        db.execute(f"{insert} VALUES ($1, 'early', false, 0, 0, 0, 'success', {now})", user)
        filters = CallFilters(user_id=user)
        before = walk(db, connections, filters, "oldest", 100_000, lambda: None)
        cursor = db.run(last_cursor(connections, filters))
        background.run(slow.execute("COMMIT"))
    finally:
        background.run(slow.close())
    after = db.run(names(connections, filters, cursor))

    assert after == ["late", "early"]
    assert before == plainly(db, {"user_id": user}, "oldest")[: len(before)]


def test_where_clocks_are_about_to_be_set_back_the_end_waits() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    at = [SINCE.replace(month=10, day=27, hour=hour, minute=30) for hour in (0, 1, 2)]  # back at 01:00 UTC in 2024
    told = [earliest_to_come(moment, "Europe/Berlin") for moment in at]
    assert [f"{moment:%H:%M}" for moment in told] == ["02:00", "02:30", "03:30"]
    assert [moment.astimezone(berlin).strftime("%H:%M") for moment in at] == ["02:30", "02:30", "03:30"]


async def last_cursor(connections: Connections, filters: CallFilters) -> str:
    page = await listing(connections, followed(filters))
    return cursor_after(page.rows[-1], "oldest")


async def names(connections: Connections, filters: CallFilters, cursor: str) -> list[str]:
    return [row["model_name"] for row in (await listing(connections, followed(filters, cursor))).rows]


def followed(filters: CallFilters, cursor: str | None = None) -> PageAsked:
    return PageAsked(visibility=EVERYTHING, filters=filters, zone="UTC", limit=100_000, cursor=cursor, order="oldest")


async def listing(connections: Connections, asked: PageAsked) -> Page[Call]:
    async with connections.reading() as session:
        return await list_calls(session, asked)
