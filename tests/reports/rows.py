"""Random calls, settled by the ledger as calls are, and then spread over time with their sums."""

import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from tests.harness.postgres import Database
from tests.ledger.calls import make_key, make_payer
from tests.ledger.sums import sum_up_periods

SINCE = datetime(2024, 10, 20, tzinfo=UTC)
DAYS = 200
"""Over the ends of summer on both halves of the world."""

SETTLE = """
    INSERT INTO aigcspace.api_call_log (
        user_id, api_key_id, model_id, model_name, is_local, input_tokens, output_tokens, status, request_id, usage_source, api,
        upstream_id, latency_ms, first_token_ms, end_reason, end_user, request_ip, cache_read_tokens, upstream_cost, charge, write_off,
        bill, created_at, settled_at
    )
    SELECT e.user_id, s.api_key_id, e.model_id, e.model_name, e.is_local, e.input_tokens, e.output_tokens, e.status, e.request_id,
        e.usage_source, e.api, e.upstream_id, e.latency_ms, e.first_token_ms, e.end_reason, e.end_user, e.request_ip, e.cache_read_tokens,
        e.upstream_cost, s.charge, s.write_off, s.bill, s.settled_at AT TIME ZONE 'UTC', s.settled_at
    FROM aigcspace.settle($1::text::jsonb, 1000, 'UTC') s, jsonb_to_record(s.entry) AS e (
        user_id text, model_id int, model_name text, is_local boolean, input_tokens int, output_tokens int, status text, request_id uuid,
        usage_source text, api text, upstream_id int, latency_ms int, first_token_ms int, end_reason text, end_user text, request_ip text,
        cache_read_tokens int, upstream_cost numeric
    )
"""
FILTERS = st.fixed_dictionaries(
    {},
    optional={
        "user_id": st.sampled_from(["user-a", "user-b", "nobody"]),
        "model_name": st.sampled_from(["m0", "m1", "m2", "none"]),
        "status": st.sampled_from(["success", "failed"]),
        "api": st.sampled_from(["chat.completions", "embeddings"]),
        "upstream_id": st.integers(1, 3),
        "is_local": st.booleans(),
    },
)
"""Of what sums are kept by."""
FURTHER = st.fixed_dictionaries(
    {},
    optional={
        "usage_source": st.sampled_from(["provider", "estimated", "none"]),
        "end_reason": st.sampled_from(["completed", "upstream_error", "orphaned"]),
        "end_user": st.sampled_from(["e0", "e1"]),
        "request_ip": st.sampled_from(["10.0.0.1", "10.0.0.2"]),
        "model_id": st.integers(1, 3),
    },
)


class Calls:
    """`settle` adds some, in one transaction each batch."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._random = random.Random(1)
        self._keys: dict[str, tuple[str, int, int]] = {}
        for name in ("user-a", "user-b"):
            payer = make_payer(db, credit_limit="1000000")
            self._keys[name] = (payer.user_id, payer.key_id, make_key(db, payer.user_id))

    def user(self, name: str) -> str:
        return self._keys[name][0] if name in self._keys else name

    def settle(self, count: int) -> None:
        self._db.execute(SETTLE, json.dumps([self._entry() for _ in range(count)]))

    def spread(self) -> None:
        """Puts what is settled somewhere in time, and sums it up anew."""
        self._db.execute(
            "UPDATE aigcspace.api_call_log SET settled_at = $1::timestamptz + random() * $2::interval", SINCE, timedelta(days=DAYS)
        )
        self._db.execute("UPDATE aigcspace.api_call_log SET created_at = settled_at AT TIME ZONE 'UTC'")
        measured = (
            "input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, charge, bill, write_off, upstream_cost"
        )
        sums = ", ".join(f"coalesce(sum({name}), 0)" for name in measured.split(", "))
        self._db.execute("TRUNCATE aigcspace.usage_hourly")
        self._db.execute(f"""
            INSERT INTO aigcspace.usage_hourly
            SELECT date_trunc('hour', settled_at, 'UTC'), user_id, coalesce(api_key_id, 0), model_name, coalesce(upstream_id, 0),
                coalesce(api, ''), status, is_local, count(*), {sums}, sum(aigcspace.latency_bucket(latency_ms)),
                sum(aigcspace.latency_bucket(first_token_ms))
            FROM aigcspace.api_call_log GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
        """)
        sum_up_periods(self._db)

    def _entry(self) -> dict[str, Any]:
        some = self._random
        user_id, *keys = self._keys[some.choice(list(self._keys))]
        failed = some.random() < 0.3
        model = some.randrange(3)
        return {
            "request_id": str(UUID(int=some.getrandbits(128))),
            "user_id": user_id,
            "api_key_id": some.choice(keys),
            "model_id": model + 1,
            "model_name": f"m{model}",
            "is_local": model == 2,
            "input_tokens": some.randrange(1000),
            "output_tokens": some.randrange(1000),
            "cache_read_tokens": some.choice([None, 7]),
            "status": "failed" if failed else "success",
            "usage_source": "none" if failed else some.choice(["provider", "estimated"]),
            "end_reason": "upstream_error" if failed else "completed",
            "end_user": some.choice([None, "e0", "e1"]),
            "request_ip": some.choice(["10.0.0.1", "10.0.0.2"]),
            "api": some.choice([None, "chat.completions", "embeddings"]),
            "upstream_id": some.choice([None, 1, 2]),
            "latency_ms": some.choice([None, some.randrange(60_000)]),
            "first_token_ms": some.choice([None, some.randrange(5000)]),
            "upstream_cost": some.choice([None, "0.0012345678"]),
            "cost": f"{some.randrange(10**6) / 10**8:.8f}",
        }
