"""What is asked of the filled log, and how long each takes: pages, stats, an export, and settling."""

import contextlib
import json
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any
from zoneinfo import ZoneInfo

import psutil  # type: ignore[import-untyped]
from sqlalchemy import Integer, Text, cast, func, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql import bindparam

from app.database import SCHEMA, Database
from app.ledger.rows import rows_of
from app.models import ApiCallLog
from app.reports.calls import EVERYTHING, CallFilters, Explain, PageAsked, cursor_after, in_order, list_calls, matching, page_query
from app.reports.export import Exports, Format, export, export_query
from app.reports.stats import Question, stats
from bench.logs.rows import DAYS, KEYS, RETIRED_UPSTREAM, model, user

REPEATS = 20
PAGE = 100
BATCH = 50
_DEEP = 0.9
"""How far back in time a deep page begins, of all."""


@dataclass(frozen=True)
class Measured:
    """Milliseconds; `plan`: the nodes, from the outermost."""

    name: str
    found: str
    p50: float
    p95: float
    plan: str


def filters(now: datetime) -> dict[str, Mapping[str, Any]]:
    def ago(days: int) -> datetime:
        return now - timedelta(days=days)

    single: dict[str, Mapping[str, Any]] = {
        "none": {},
        "user_id, the busiest": {"user_id": user(0)},
        "user_id, of few": {"user_id": user(1990)},
        "api_key_id": {"api_key_id": 2},
        "model_name, most": {"model_name": model(0)},
        "model_name, retired": {"model_name": model(22)},
        "model_id, retired": {"model_id": 23},
        "is_local, 0.4 %": {"is_local": True},
        "is_local, not": {"is_local": False},
        "status, success": {"status": "success"},
        "status, failed": {"status": "failed"},
        "request_id, none": {"request_id": uuid.UUID(int=1)},
        "request_ip": {"request_ip": "10.0.0.1"},
        "request_ip, none": {"request_ip": "192.0.2.1"},
        "api, rare": {"api": "rerank"},
        "api, none": {"api": "nothing"},
        "upstream_id, retired": {"upstream_id": RETIRED_UPSTREAM},
        "usage_source, estimated": {"usage_source": "estimated"},
        "end_reason, orphaned": {"end_reason": "orphaned"},
        "end_reason, none": {"end_reason": "nothing"},
        "end_user": {"end_user": "customer-0-7"},
        "created_from, 30 days": {"created_from": ago(30)},
        "created_to, 300 days ago": {"created_to": ago(300)},
        "min_bill, most": {"min_bill": Decimal("0.0001")},
        "min_bill, none": {"min_bill": Decimal(1)},
    }
    combined: dict[str, Mapping[str, Any]] = {
        "user + failed": {"user_id": user(0), "status": "failed"},
        "user + another's model": {"user_id": user(0), "model_name": model(1)},
        "user + a day": {"user_id": user(1), "created_from": ago(201), "created_to": ago(200)},
        "user + orphaned": {"user_id": user(0), "end_reason": "orphaned"},
        "key + end_user": {"api_key_id": 1, "end_user": "customer-0-7"},
        "model + failed": {"model_name": model(0), "status": "failed"},
        "retired model + upstream + failed": {"model_name": model(22), "upstream_id": 11, "status": "failed"},
        "upstream + estimated + api": {"upstream_id": 3, "usage_source": "estimated", "api": "chat.completions"},
        "failed + estimated, none": {"status": "failed", "usage_source": "estimated"},
        "ip + client_gone + month": {
            "request_ip": "10.0.0.1",
            "end_reason": "client_gone",
            "created_to": ago(100),
            "created_from": ago(130),
        },
    }
    return single | combined


async def timed(work: Callable[[], Awaitable[Any]], repeats: int = REPEATS) -> tuple[Any, float, float]:
    """What it returned last, p50 and p95 of all but the first time."""
    took = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        answer = await work()
        took.append((time.perf_counter() - began) * 1000)
    ordered = sorted(took[1:])
    return answer, ordered[len(ordered) // 2], ordered[min(int(len(ordered) * 0.95), len(ordered) - 1)]


async def pages(database: Database, name: str, asked: Mapping[str, Any], *, repeats: int = REPEATS) -> list[Measured]:
    """The first page, and one that begins deep down where there is one."""
    wanted = CallFilters(**asked)
    found = []
    async with database.reading() as session:
        for depth, cursor in (("first", None), ("deep", await _deep_cursor(session, wanted))):
            if depth == "deep" and cursor is None:
                continue

            asked_page = PageAsked(visibility=EVERYTHING, filters=wanted, zone="UTC", limit=PAGE, cursor=cursor)

            async def page(asked_page: PageAsked = asked_page) -> Any:
                return await list_calls(session, asked_page)

            answer, p50, p95 = await timed(page, repeats)
            plan = (await session.execute(Explain(await page_query(session, asked_page)))).scalar_one()
            found.append(Measured(f"{name}, {depth}", f"{len(answer.rows)} rows", p50, p95, " < ".join(_steps(plan[0]["Plan"]))))
    return found


def _steps(node: dict[str, Any]) -> list[str]:
    """Those of a plan, with their indexes."""
    step = " ".join(filter(None, (node["Node Type"], node.get("Index Name"))))
    return [*([] if node["Node Type"] == "Limit" else [step]), *(step for part in node.get("Plans", ()) for step in _steps(part))]


async def _deep_cursor(session: AsyncSession, wanted: CallFilters) -> str | None:
    long_ago = (datetime.now(UTC) - timedelta(days=DAYS * _DEEP)).replace(tzinfo=None)
    query: Any = select(ApiCallLog.created_at.label("stored_at"), ApiCallLog.id)
    query = query.where(*matching(EVERYTHING, wanted, "UTC"), ApiCallLog.created_at < long_ago)
    row = (await session.execute(in_order(query, "newest").limit(1))).mappings().one_or_none()
    return cursor_after(row, "newest") if row else None


async def sums(database: Database, now: datetime, *, repeats: int = REPEATS) -> list[Measured]:
    midnight = now.replace(hour=0)
    month = CallFilters(created_from=midnight - timedelta(days=30), created_to=midnight)
    always = CallFilters()
    questions: list[tuple[str, CallFilters, list[Any], Any, str, bool]] = [
        ("30 days by model and day", month, ["model"], "day", "UTC", True),
        ("30 days, without percentiles", month, ["model"], "day", "UTC", False),
        ("30 days, without percentiles, in Asia/Shanghai", month, ["model"], "day", "Asia/Shanghai", False),
        ("everything", always, [], None, "UTC", True),
        ("everything by model", always, ["model"], None, "UTC", True),
        ("everything by upstream and status", always, ["upstream", "status"], None, "UTC", True),
        ("everything by day", always, [], "day", "UTC", True),
        ("everything by user", always, ["user"], None, "UTC", True),
        ("everything by user, without percentiles", always, ["user"], None, "UTC", False),
        ("one user by model", CallFilters(user_id=user(0)), ["model"], None, "UTC", True),
    ]
    found = []
    async with database.reading() as session:
        backend = psutil.Process((await session.execute(select(func.pg_backend_pid()))).scalar_one())
        for name, limited, group_by, interval, zone, whole in questions:
            question = Question(
                visibility=EVERYTHING,
                filters=limited,
                group_by=group_by,
                interval=interval,
                time_zone=ZoneInfo(zone),
                most=100_000,
                with_percentiles=whole,
            )

            async def ask(question: Question = question) -> Any:
                return await stats(session, question, log_zone="UTC")

            before = sum(backend.cpu_times()[:2])
            answer, p50, p95 = await timed(ask, repeats)
            cpu = (sum(backend.cpu_times()[:2]) - before) / (repeats + 1) * 1000
            found.append(Measured(f"stats: {name}", f"{len(answer.groups):,} groups", p50, p95, f"PostgreSQL CPU {cpu:.0f} ms"))
    return found


async def exported(database: Database, format: Format, most: int) -> Measured:
    """Stops after `most` rows."""
    rows = 0
    process = psutil.Process()
    before, began, largest = process.memory_info().rss, time.perf_counter(), 0

    async def take(data: bytes) -> None:
        nonlocal rows, largest
        rows += data.count(b"\n")
        largest = max(largest, process.memory_info().rss)
        if rows >= most:
            raise StopAsyncIteration

    async with Exports(database).starting() as connection:
        sql = await export_query(connection, visibility=EVERYTHING, filters=CallFilters(), zone="UTC", format=format, after_id=None)
        with contextlib.suppress(StopAsyncIteration):
            await export(connection, sql, take, format=format, with_header=True)
    took = time.perf_counter() - began
    memory = f"{largest / 2**20:.0f} MiB, of which {max(largest - before, 0) / 2**20:.0f} for this"
    return Measured(f"export: {format}", f"{rows:,} rows, {rows / took:,.0f}/s", took * 1000, took * 1000, memory)


async def settled(database: Database, *, first: int, batches: int) -> list[Measured]:
    """Calls of users as they come, without holds; committed one batch after the other. The first ones, right after all else was read,
    are told apart: they read what has left PostgreSQL's memory."""
    batch = cast(bindparam("batch", type_=Text()), JSONB())
    settling = getattr(func, SCHEMA).settle(batch, bindparam("patience", type_=Integer()), "UTC")
    statement = database.written(rows_of(settling, time_zone="UTC"))
    numbers = count()

    async def some(name: str, number: int) -> Measured:
        before = sum(backend.cpu_times()[:2])
        took = []
        for _ in range(number):
            entries = json.dumps([_entry(next(numbers)) for _ in range(BATCH)])
            began = time.perf_counter()
            await database.count(statement, {"batch": entries, "patience": 1000})
            took.append((time.perf_counter() - began) * 1000)
        cpu = (sum(backend.cpu_times()[:2]) - before) / number * 1000
        ordered = sorted(took)
        rate = number * BATCH / sum(took) * 1000
        p50, p95 = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.95)]
        return Measured(f"settling, {BATCH} at a time{name}", f"{rate:,.0f} rows/s", p50, p95, f"PostgreSQL CPU {cpu:.1f} ms a batch")

    async with database.autocommit() as connection:
        backend = psutil.Process((await connection.execute(select(func.pg_backend_pid()))).scalar_one())
    return [await some(f", the first {first * BATCH:,}", first), await some("", batches)]


def _entry(number: int) -> dict[str, Any]:
    who = int(2000 ** ((number * 0.618034) % 1)) - 1
    tokens = {"input_tokens": 800, "output_tokens": 200, "cache_read_tokens": 0, "cache_write_tokens": 0, "reasoning_tokens": 0}
    return tokens | {
        "request_id": str(uuid.uuid4()),
        "user_id": user(who),
        "api_key_id": who * KEYS + 1,
        "model_id": who % 20 + 1,
        "model_name": model(who % 20),
        "is_local": False,
        "status": "success",
        "usage_source": "provider",
        "end_reason": "completed",
        "http_status": 200,
        "api": "chat.completions",
        "is_stream": True,
        "upstream_id": who % 11 + 1,
        "upstream_model": model(who % 20),
        "request_ip": f"10.0.{who & 255}.1",
        "end_user": f"customer-{who}-1",
        "latency_ms": 200 + number % 5000,
        "first_token_ms": 100 + number % 900,
        "price": {"id": 1, "model_name": model(0), "rates": {"input": "0.15", "output": "0.6"}},
        "line_items": [{"meter": "input", "count": 800, "per_million": "0.15", "amount": "0.0001200000"}],
        "attempts": [{"upstream_id": 1, "status": 200, "latency_ms": 200}],
        "cost": "0.0002400000",
    }
