"""A platform as it might be, for pictures of the dashboard: people, keys, upstreams, prices, and five weeks of calls."""

import json
import random
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import pi, sin
from typing import Any

import asyncpg

from bench.logs.fill import sum_up
from tests.harness.admin import Admin

DAYS, CALLS = 36, 24_000
UPSTREAMS = {
    "openai": ("https://api.openai.com/v1", ["gpt-6-luna", "gpt-6.1-sol"], {"protocols": ["openai"]}),
    "anthropic": ("https://api.anthropic.com", ["claude-sonnet-5"], {"protocols": ["anthropic"]}),
    "gemini": ("https://generativelanguage.googleapis.com", ["gemini-3-flash"], {"protocols": ["gemini"]}),
    "deepseek": ("https://api.deepseek.com", ["deepseek-v4-flash"], {}),
    "on-premises": ("http://127.0.0.1:8001/v1", {"qwen3-32b": "Qwen/Qwen3-32B"}, {"is_local": True, "auth": "none"}),
}
MODELS = {
    "gpt-6-luna": ("openai", "chat.completions", {"input": "0.12", "output": "0.60", "cache_read": "0.012"}, 34),
    "gpt-6.1-sol": ("openai", "responses", {"input": "2.4", "output": "12", "cache_read": "0.24"}, 9),
    "claude-sonnet-5": ("anthropic", "messages", {"input": "3.3", "output": "16.5", "cache_read": "0.33", "cache_write": "4.1"}, 16),
    "gemini-3-flash": ("gemini", "gemini.generate", {"input": "0.35", "output": "2.8"}, 14),
    "deepseek-v4-flash": ("deepseek", "chat.completions", {"input": "0.3", "output": "0.45", "cache_read": "0.03"}, 18),
    "qwen3-32b": ("on-premises", "chat.completions", {"input": "0.1", "output": "0.3"}, 9),
}
"""Upstream, API, rates, and how often it is called."""
PEOPLE = {"lumen-studio": 30, "northwind": 22, "acme-robotics": 17, "kite-travel": 12, "星辰科技": 10, "helix-health": 6, "solo-dev": 3}
COLUMNS = (
    "user_id", "api_key_id", "model_name", "is_local", "upstream_id", "upstream_model", "api", "price", "attempts", "input_tokens",
    "output_tokens", "cache_read_tokens", "charge", "line_items", "bill", "upstream_cost", "status", "error_message", "http_status",
    "end_reason", "usage_source", "is_stream", "latency_ms", "first_token_ms", "request_ip", "created_at", "settled_at", "request_id",
    "end_user",
)  # fmt: skip


def furnish(admin: Admin) -> tuple[dict[str, int], dict[str, int]]:
    """What operators set. The ids of upstreams by name, and of keys by user."""
    admin.ask("POST", "/admin/groups", json={"name": "partners", "multiplier": "0.9", "models": ["gpt-6*", "qwen3-*"], "rpm": 600})
    for name, (_, _, rates, _) in MODELS.items():
        admin.set_price(name, rates)
    admin.set_price(
        "gpt-6.1-sol", MODELS["gpt-6.1-sol"][2], tiers=[{"above_input_tokens": 272000, "rates": {"input": "4.8", "output": "18"}}]
    )
    admin.ask("PUT", "/admin/models/gpt-6-luna", json={"context_tokens": 1050000, "max_output_tokens": 128000})
    upstreams = {}
    for name, (url, models, more) in UPSTREAMS.items():
        upstreams[name] = admin.add_upstream(name, url, models, **({} if "auth" in more else {"api_key": f"secret-of-{name}-0123"}) | more)[
            "id"
        ]
    for model, rates in (("gpt-6-luna", {"input": "0.10", "output": "0.50"}), ("gpt-6.1-sol", {"input": "2", "output": "10"})):
        admin.ask("PUT", f"/admin/upstreams/{upstreams['openai']}/prices/{model}", json={"rates": rates})
    keys = {}
    for user, credit in PEOPLE.items():
        admin.add_user(user, **({"group": "partners"} if user == "northwind" else {}))
        admin.add_credit(user, f"{credit * 40}", note="Invoice 2030-0142")
        keys[user] = admin.add_key(user, name="production", **({"models": ["gpt-6*"]} if user == "solo-dev" else {}))["id"]
    admin.ask("POST", "/admin/codes", json={"amount": "10", "count": 12, "note": "Spring campaign"})
    admin.ask("POST", "/admin/tokens", json={"name": "finance", "role": "viewer"})
    return upstreams, keys


async def plant(url: str, upstreams: dict[str, int], keys: dict[str, int]) -> None:
    """Calls as the ledger would have kept them, always the same ones."""
    dice, now = random.Random(8), datetime.now(UTC).replace(microsecond=0)
    rows = sorted((_row(dice, now, upstreams, keys) for _ in range(CALLS)), key=lambda row: row["created_at"])
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            await connection.execute("SET LOCAL session_replication_role = replica")
            records = [tuple(row[name] for name in COLUMNS) for row in rows]
            await connection.copy_records_to_table("api_call_log", schema_name="aigcspace", columns=COLUMNS, records=records)
        await sum_up(connection)
        await connection.execute(
            "INSERT INTO aigcspace.key_meter (key_id, spent) SELECT api_key_id, sum(charge) FROM aigcspace.api_call_log GROUP BY 1 "
            "ON CONFLICT (key_id) DO UPDATE SET spent = excluded.spent"
        )
        await connection.execute("ANALYZE")
        await connection.execute(
            "UPDATE aigcspace.account a SET spent = s.charge, billed = round(s.charge, 4) FROM "
            "(SELECT user_id, sum(charge) AS charge FROM aigcspace.api_call_log GROUP BY 1) s WHERE s.user_id = a.user_id"
        )
    finally:
        await connection.close()


def _row(dice: random.Random, now: datetime, upstreams: dict[str, int], keys: dict[str, int]) -> dict[str, Any]:
    at = _moment(dice, now)
    user = dice.choices(list(PEOPLE), list(PEOPLE.values()))[0]
    model = dice.choices(list(MODELS), [often for *_, often in MODELS.values()])[0]
    upstream, api, rates, _ = MODELS[model]
    failed = dice.random() < 0.012
    tokens, out = (0, 0) if failed else (int(200 + 90_000 * dice.random() ** 4), int(40 + 4_000 * dice.random() ** 2))
    cached = int(tokens * dice.choice((0, 0, 0.4, 0.8))) if "cache_read" in rates else 0
    counts = {"input": tokens - cached, "cache_read": cached, "output": out}
    lines = [
        {
            "meter": meter,
            "quantity": count,
            "unit_price": rates[meter],
            "per": 10**6,
            "amount": f"{Decimal(rates[meter]) * count / 10**6:.10f}",
        }
        for meter, count in counts.items()
        if count
    ]
    charge = sum((Decimal(str(line["amount"])) for line in lines), Decimal(0))
    latency = int(300 + 14_000 * dice.random() ** 3)
    stream = not failed and dice.random() < 0.7
    attempts = [{"upstream_id": upstreams[upstream], "status": 502 if failed else 200, "ms": latency}]
    if model == "gpt-6.1-sol" or dice.random() < 0.1:
        attempts[0]["ms"] -= 120
        attempts.insert(0, {"upstream_id": upstreams["on-premises"], "status": 503, "ms": 120, "error": "overloaded"})
    return {
        "user_id": user,
        "api_key_id": keys[user],
        "model_name": model,
        "is_local": upstream == "on-premises",
        "upstream_id": upstreams[upstream],
        "upstream_model": model,
        "api": api,
        "price": json.dumps({"id": 1, "model_name": model, "rates": rates}),
        "attempts": json.dumps(attempts),
        "input_tokens": tokens,
        "output_tokens": out,
        "cache_read_tokens": cached,
        "charge": charge,
        "line_items": json.dumps(lines),
        "bill": round(charge, 4),
        "upstream_cost": (charge * Decimal("0.83")).quantize(Decimal("1e-10")) if upstream == "openai" else None,
        "status": "failed" if failed else "success",
        "error_message": "The upstream is overloaded. Try again shortly." if failed else None,
        "http_status": 502 if failed else 200,
        "end_reason": "upstream_error" if failed else "completed",
        "usage_source": "none" if failed else "provider",
        "is_stream": stream,
        "latency_ms": latency,
        "first_token_ms": latency // 6 if stream else None,
        "request_ip": f"10.4.{keys[user]}.{dice.randrange(2, 9)}",
        "created_at": at.replace(tzinfo=None),
        "settled_at": at,
        "request_id": uuid.UUID(int=dice.getrandbits(128), version=4),
        "end_user": f"customer-{dice.randrange(40)}" if dice.random() < 0.3 else None,
    }


def _moment(dice: random.Random, now: datetime) -> datetime:
    """More by day than by night, fewer on Sundays, and more from week to week."""
    while True:
        at = now - timedelta(days=DAYS * dice.random() ** 1.25)
        day = 0.55 + 0.45 * sin((at.hour + at.minute / 60 - 8) / 24 * 2 * pi)
        if dice.random() < day * (0.55 if at.weekday() >= 5 else 1):
            return at
