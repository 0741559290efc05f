"""Fills a migrated database by COPY: the rows, and what the ledger would have kept of them, so that the books prove right."""

import asyncio
from collections.abc import AsyncIterator, Callable
from decimal import Decimal

import asyncpg

from bench.logs.rows import COLUMNS, KEYS, MODELS, UPSTREAMS, USERS, Rows, model, user

S = "aigcspace"
CREDIT = Decimal(1_000_000)
_MEASURES = (
    "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "charge", "bill", "write_off",
    "upstream_cost",
)  # fmt: skip
_KEPT = ("api_call_log_pkey", "uq_api_call_log_request_id")
"""Indexes that COPY itself fills: their keys ascend. The others are built afterwards."""

Tell = Callable[[str, int, int], None]
"""What is being done, how much of it is, and of how much."""


async def fill(connection: asyncpg.Connection, rows: Rows, tell: Tell) -> None:
    """With more memory than the measured queries get. The same session must be used for nothing else."""
    await connection.execute("SET maintenance_work_mem = '512MB'; SET work_mem = '512MB'; SET statement_timeout = 0")
    await _add_people(connection)
    names = f"SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = '{S}' AND tablename = 'api_call_log' AND indexname <> ALL ($1)"
    indexes = await connection.fetch(names, _KEPT)
    for index in indexes:
        await connection.execute(f"DROP INDEX {S}.{index['indexname']}")
    await _copy(connection, rows, tell)
    for at, index in enumerate(indexes):
        tell("building indexes", at, len(indexes))
        await connection.execute(index["indexdef"])
    tell("summing up", 0, 3)
    await sum_up(connection)
    tell("summing up", 2, 3)
    await _settle_accounts(connection, rows)
    await connection.execute("VACUUM ANALYZE")
    await connection.execute("CHECKPOINT")
    tell("summing up", 3, 3)


async def _add_people(connection: asyncpg.Connection) -> None:
    keys = [(who * KEYS + key + 1, user(who)) for who in range(USERS) for key in range(KEYS)]
    await connection.copy_records_to_table("users", schema_name=S, columns=["id"], records=[(user(who),) for who in range(USERS)])
    await connection.copy_records_to_table("platform_api_key", schema_name=S, columns=["id", "user_id"], records=keys)
    await connection.copy_records_to_table("key_policy", schema_name=S, columns=["key_id"], records=[(key,) for key, _ in keys])
    await connection.execute(f"SELECT setval('{S}.platform_api_key_id_seq', {USERS * KEYS})")
    models = [(number + 1, model(number)) for number in range(MODELS)]
    await connection.copy_records_to_table("model", schema_name=S, columns=["id", "name"], records=models)
    upstreams = [(at + 1, f"upstream-{at + 1}", "http://127.0.0.1:9") for at in range(UPSTREAMS)]
    await connection.copy_records_to_table("upstream", schema_name=S, columns=["id", "name", "base_url"], records=upstreams)


async def _copy(connection: asyncpg.Connection, rows: Rows, tell: Tell) -> None:
    """FREEZE, as an old table is. Foreign keys hold by themselves here."""

    async def chunks() -> AsyncIterator[bytes]:
        done = 0
        for chunk in rows.chunks():
            yield chunk
            done += chunk.count(b"\n")
            tell("copying rows", done, rows.count)
            await asyncio.sleep(0)

    async with connection.transaction():
        await connection.execute(f"SET LOCAL session_replication_role = replica; TRUNCATE {S}.api_call_log RESTART IDENTITY")
        await connection.copy_to_table("api_call_log", schema_name=S, columns=COLUMNS, source=chunks(), format="text", freeze=True)


async def sum_up(connection: asyncpg.Connection) -> None:
    sums = ", ".join(f"coalesce(sum({name}), 0)" for name in _MEASURES)
    await connection.execute(f"""
        INSERT INTO {S}.usage_hourly
        SELECT date_trunc('hour', settled_at, 'UTC'), user_id, api_key_id, model_name, upstream_id, api, status, is_local, count(*), {sums},
            sum({S}.latency_bucket(latency_ms)), sum({S}.latency_bucket(first_token_ms))
        FROM {S}.api_call_log GROUP BY 1, 2, 3, 4, 5, 6, 7, 8 ORDER BY 1
    """)
    sums = ", ".join(f"sum({name})" for name in ("calls", *_MEASURES, "latencies", "first_tokens"))
    rest = "model_name, upstream_id, api, status, is_local"
    of_what = (
        ("day", "day", f"'', 0, {rest}"),
        ("month", "month", f"user_id, api_key_id, {rest}"),
        ("user", "month", "user_id, 0, '', 0, '', status, false"),
    )
    for period, length, told in of_what:
        await connection.execute(f"""
            INSERT INTO {S}.usage_period
            SELECT '{period}', date_trunc('{length}', hour, 'UTC'), 0, {told}, {sums}
            FROM {S}.usage_hourly GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
        """)


async def _settle_accounts(connection: asyncpg.Connection, rows: Rows) -> None:
    spent = [Decimal(one).scaleb(-10) for one in rows.spent]
    billed = [Decimal((one + 500_000) // 1_000_000).scaleb(-4) for one in rows.spent]
    accounts = [(user(who), CREDIT, spent[who], billed[who], rows.since) for who in range(USERS)]
    columns = ["user_id", "credit", "spent", "billed", "created_at"]
    await connection.copy_records_to_table("account", schema_name=S, columns=columns, records=accounts)
    entries = [(user(who), CREDIT) for who in range(USERS)]
    await connection.copy_records_to_table("credit_entry", schema_name=S, columns=["user_id", "amount"], records=entries)
    meters = [(key + 1, Decimal(one).scaleb(-10)) for key, one in enumerate(rows.charged)]
    await connection.copy_records_to_table("key_meter", schema_name=S, columns=["key_id", "spent"], records=meters)
