"""The rows of ended calls: one INSERT of `ApiCallLog` over a function that computes, under its locks, what each call is charged.

`settle` and `reap` return the same columns; the rows are inserted by the statement that calls them, so that all happens in
one transaction and one round trip.
"""

from typing import Any

from sqlalchemy import ARRAY, Boolean, DateTime, Integer, Numeric, String, Text, Uuid, column, func, select, true
from sqlalchemy.dialects.postgresql import JSONB, Insert, insert
from sqlalchemy.sql import ColumnElement
from sqlalchemy.sql.functions import FunctionElement

from app.models import ApiCallLog

_FROM_ENTRY = (
    column("request_id", Uuid()),
    column("user_id", String()),
    column("model_id", Integer()),
    column("model_name", String()),
    column("is_local", Boolean()),
    column("input_tokens", Integer()),
    column("output_tokens", Integer()),
    column("status", String()),
    column("error_message", Text()),
    column("request_ip", String()),
    column("cache_read_tokens", Integer()),
    column("cache_write_tokens", Integer()),
    column("reasoning_tokens", Integer()),
    column("usage_source", String()),
    column("api", String()),
    column("is_stream", Boolean()),
    column("upstream_id", Integer()),
    column("upstream_model", String()),
    column("http_status", Integer()),
    column("latency_ms", Integer()),
    column("first_token_ms", Integer()),
    column("end_reason", String()),
    column("end_user", String()),
    column("max_tokens_applied", Integer()),
    column("flags", ARRAY(Text())),
    column("tags", JSONB()),
    column("price", JSONB()),
    column("line_items", JSONB()),
    column("attempts", JSONB()),
    column("upstream_cost", Numeric()),
)
"""The columns of a row that an entry holds under their own names. The rest is computed."""

_COMPUTED = (
    column("entry", JSONB()),
    column("api_key_id", Integer()),
    column("charge", Numeric()),
    column("write_off", Numeric()),
    column("bill", Numeric()),
    column("settled_at", DateTime(timezone=True)),
    column("amended_at", DateTime(timezone=True)),
)


def rows_of(ended: FunctionElement[Any], *, time_zone: str) -> Insert:
    """INSERT INTO api_call_log SELECT ... FROM ended(...), jsonb_to_record(entry)."""
    settled = ended.table_valued(*_COMPUTED, name="settled")
    entry = func.jsonb_to_record(settled.c.entry).table_valued(*_FROM_ENTRY, name="entry").render_derived(with_types=True)
    computed: dict[str, ColumnElement[Any]] = {
        "api_key_id": settled.c.api_key_id,
        "charge": settled.c.charge,
        "write_off": settled.c.write_off,
        "bill": settled.c.bill,
        "created_at": func.timezone(time_zone, settled.c.settled_at),
        "settled_at": settled.c.settled_at,
        "amended_at": settled.c.amended_at,
    }
    stored = [*(part.name for part in _FROM_ENTRY), *computed]
    source = select(*(entry.c[part.name] for part in _FROM_ENTRY), *computed.values()).select_from(settled).join(entry, onclause=true())
    rows = insert(ApiCallLog).from_select(stored, source, include_defaults=False)
    # rows that are there already are those that `settle` amends
    return rows.on_conflict_do_update(index_elements=["request_id"], set_={name: rows.excluded[name] for name in stored})
