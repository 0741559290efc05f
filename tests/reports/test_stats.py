"""Stats equal a plain GROUP BY over the rows, whatever is asked, in any time zone."""

from bisect import bisect_right
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import accumulate, pairwise
from math import ceil
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from app.database import Database as Connections
from app.errors import UnacceptableValue
from app.reports.calls import EVERYTHING, CallFilters, Visibility
from app.reports.latencies import BOUNDS, percentiles
from app.reports.periods import starts
from app.reports.stats import Question, stats
from tests.harness.postgres import Database
from tests.reports.rows import DAYS, FILTERS, FURTHER, SINCE, Calls

ZONES = (
    "UTC",
    "Asia/Shanghai",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Europe/Berlin",
    "Australia/Lord_Howe",
    "America/St_Johns",
    "America/Santiago",
)
COLUMNS = {
    "user": "user_id", "key": "api_key_id", "model": "model_name", "upstream": "upstream_id", "api": "api", "status": "status",
    "is_local": "is_local", "end_user": "end_user", "group": "price ->> 'group'",
}  # fmt: skip
KEPT = sorted(COLUMNS.keys() - {"end_user", "group"})
SUMS = (
    "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "charge", "bill", "write_off",
    "upstream_cost",
)  # fmt: skip
MINUTES = st.integers(0, DAYS * 1440)
SLOW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def calls(db: Database) -> Calls:
    made = Calls(db)
    for _ in range(20):
        made.settle(100)
    made.spread()
    made.settle(100)  # now
    return made


def ask(db: Database, connections: Connections, **asked: Any) -> list[dict[str, Any]]:
    async def run() -> list[dict[str, Any]]:
        async with connections.reading() as session:
            return (await stats(session, question(**asked), log_zone="UTC")).groups

    return db.run(run())


def question(**asked: Any) -> Question:
    base = {"visibility": EVERYTHING, "filters": CallFilters(), "group_by": [], "interval": None, "time_zone": ZoneInfo("UTC")}
    return Question(**{**base, "most": 100_000, "with_percentiles": True, **asked})


def plainly(db: Database, group_by: Sequence[str], interval: str | None, zone: str, filters: dict[str, Any]) -> list[dict[str, Any]]:
    """By PostgreSQL's own idea of time zones."""
    begun = f"date_trunc('{interval}', settled_at, '{zone}')" if interval else "NULL::timestamptz"
    values, conditions = [], ["request_id IS NOT NULL"]
    for name, value in filters.items():
        compared = {"created_from": "settled_at >=", "created_to": "settled_at <"}.get(name, f"{name} =")
        values.append(value)
        conditions.append(f"{compared} ${len(values)}")
    keys = "".join(f", {COLUMNS[name]} AS {name}_" for name in group_by)
    sums = ", ".join(f"coalesce(sum({name}), 0) AS {name}" for name in SUMS)
    return db.fetch(
        f"""
        SELECT {begun} AS start {keys}, count(*) AS calls, count(*) FILTER (WHERE status = 'failed') AS failures, {sums},
            array_agg(latency_ms ORDER BY latency_ms) FILTER (WHERE latency_ms IS NOT NULL) AS latencies
        FROM aigcspace.api_call_log WHERE {" AND ".join(conditions)}
        GROUP BY {", ".join(map(str, range(1, len(group_by) + 2)))}
        """,
        *values,
    )


def comparable(group: dict[str, Any], group_by: Sequence[str], *, suffix: str = "") -> tuple[Any, ...]:
    start = group.get("start")
    named = [str(group[name + suffix]) for name in group_by]
    return (start and start.astimezone(UTC), *named, group["calls"], group["failures"], *(Decimal(group[name]) for name in SUMS))


@SLOW
@given(
    group_by=st.lists(st.sampled_from(KEPT), max_size=3, unique=True),
    interval=st.sampled_from([None, "hour", "day", "month"]),
    zone=st.sampled_from(ZONES),
    filters=FILTERS,
    edges=st.lists(MINUTES, min_size=2, max_size=2, unique=True).map(sorted),
    open_ends=st.sets(st.sampled_from(["created_from", "created_to"])),
)
def test_of_kept_sums(
    db: Database, connections: Connections, calls: Calls, group_by: list[str], interval: str | None, zone: str, filters: dict[str, Any],
    edges: list[int], open_ends: set[str],
) -> None:  # fmt: skip
    assume(interval != "hour" or zone != "Australia/Lord_Howe")  # where half an hour comes twice, whose it is, is a matter of taste
    since, until = (SINCE + timedelta(minutes=edge) for edge in edges)
    if "user_id" in filters:
        filters["user_id"] = calls.user(filters["user_id"])
    assume(interval != "hour" or "created_to" not in open_ends)  # too many
    filters |= {name: edge for name, edge in (("created_from", since), ("created_to", until)) if name not in open_ends}
    found = ask(db, connections, filters=CallFilters(**filters), group_by=group_by, interval=interval, time_zone=ZoneInfo(zone))
    expected = plainly(db, group_by, interval, zone, filters)
    assert sorted(comparable(group, group_by) for group in found) == sorted(comparable(row, group_by, suffix="_") for row in expected)


@pytest.mark.parametrize("filters", [{}, {"status": "failed"}, {"api": "chat.completions"}, {"api_key_id": 1}], ids=str)
@pytest.mark.parametrize("group_by", [["user"], ["user", "status"], ["user", "model"], ["status", "key"], ["user", "is_local"]])
def test_of_whole_months(db: Database, connections: Connections, calls: Calls, group_by: list[str], filters: dict[str, Any]) -> None:
    """Whichever of their sums serve."""
    found = ask(db, connections, filters=CallFilters(**filters), group_by=group_by)
    expected = plainly(db, group_by, None, "UTC", filters)
    assert sorted(comparable(group, group_by) for group in found) == sorted(comparable(row, group_by, suffix="_") for row in expected)


@SLOW
@given(
    group_by=st.lists(st.sampled_from(sorted(COLUMNS)), max_size=2, unique=True),
    interval=st.sampled_from([None, "hour", "day", "minute"]),
    zone=st.sampled_from(ZONES),
    filters=st.tuples(FILTERS, FURTHER).map(lambda both: both[0] | both[1]),
    first=MINUTES,
)
def test_of_rows(
    db: Database, connections: Connections, calls: Calls, group_by: list[str], interval: str | None, zone: str, filters: dict[str, Any],
    first: int,
) -> None:  # fmt: skip
    assume(interval != "hour" or zone != "Australia/Lord_Howe")
    since = SINCE + timedelta(minutes=first)
    if "user_id" in filters:
        filters["user_id"] = calls.user(filters["user_id"])
    filters |= {"created_from": since, "created_to": since + timedelta(days=3 if interval == "minute" else 31)}
    found = ask(db, connections, filters=CallFilters(**filters), group_by=group_by, interval=interval, time_zone=ZoneInfo(zone))
    expected = plainly(db, group_by, interval, zone, filters)
    assert sorted(comparable(group, group_by) for group in found) == sorted(comparable(row, group_by, suffix="_") for row in expected)


@pytest.mark.parametrize(("interval", "zone"), [(None, "UTC"), ("day", "Asia/Shanghai")])
def test_percentiles_are_off_by_a_bucket_at_most(
    db: Database, connections: Connections, calls: Calls, interval: str | None, zone: str
) -> None:
    asked = ask(db, connections, group_by=["model"], interval=interval, time_zone=ZoneInfo(zone))
    found = {(group.get("start"), group["model"]): group for group in asked}
    measured = [row for row in plainly(db, ["model"], interval, zone, {}) if row["latencies"]]
    for row in measured:
        for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
            exact = row["latencies"][ceil(share * len(row["latencies"])) - 1]
            assert abs(found[row["start"], row["model_"]]["latency_ms"][name] - exact) <= max(1, 0.05 * exact)


@pytest.mark.parametrize(
    "counts",
    [{}, {0: 1}, {132: 7, 133: 248}, {3: 256, 5: 1}, {3: 1, 5: 9_998}, {0: 10_000, 4: 1}, {2: 123_456_789, 60: 10**8, 61: 10**11 + 1}],
)
def test_percentiles_are_told_by_the_bucket_that_reaches_them(db: Database, counts: dict[int, int]) -> None:
    number = sum(calls * 10 ** (12 * bucket) for bucket, calls in counts.items())
    histogram = db.value("SELECT numeric_send($1::text::numeric)", str(number))
    all_calls = sum(counts.values())
    for share in (0.0001, 0.5, 0.95, 1.0):
        [told] = percentiles(histogram, (share,), of=all_calls)
        reached = accumulate(counts.values())
        expected = next((bucket for bucket, calls in zip(counts, reached, strict=True) if calls >= share * all_calls), None)
        assert (None if told is None else bisect_right(BOUNDS, told)) == expected


def test_the_bounds_of_buckets_are_the_functions(db: Database) -> None:
    for bucket in range(len(BOUNDS)):
        below, at = (db.value("SELECT aigcspace.latency_bucket($1)", BOUNDS[bucket] - less) for less in (1, 0))
        assert (below, at) == (10 ** (12 * bucket), 10 ** (12 * (bucket + 1)))


def test_a_key_sees_its_own(db: Database, connections: Connections, calls: Calls) -> None:
    user = calls.user("user-a")
    keys = db.fetch("SELECT api_key_id, count(*) AS calls FROM aigcspace.api_call_log WHERE user_id = $1 GROUP BY 1 ORDER BY 1", user)
    for key in keys:
        [group] = ask(db, connections, visibility=Visibility(user_id=user, key_id=key["api_key_id"]))
        assert group["calls"] == key["calls"]
    assert ask(db, connections, visibility=Visibility(user_id=user), filters=CallFilters(user_id=calls.user("user-b"))) == []


@pytest.mark.parametrize(
    "asked",
    [
        {"group_by": ["end_user"]},
        {"filters": CallFilters(end_reason="completed")},
        {"interval": "minute"},
        {"interval": "hour", "filters": CallFilters(created_from=SINCE, created_to=SINCE + timedelta(days=1000))},
    ],
)
def test_what_would_read_too_much(db: Database, connections: Connections, calls: Calls, asked: dict[str, Any]) -> None:
    with pytest.raises(UnacceptableValue, match=r"created_from|interval"):
        ask(db, connections, **asked)


def test_days_of_23_and_25_hours() -> None:
    begun = starts(datetime(2029, 3, 24, tzinfo=UTC), datetime(2029, 11, 1, tzinfo=UTC), "day", ZoneInfo("Europe/Berlin"), most=1000)
    lengths = [following - start for start, following in pairwise(begun)]
    assert sorted(set(lengths)) == [timedelta(hours=hours) for hours in (23, 24, 25)]
