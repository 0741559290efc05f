"""Settlement: the end of a call, in one statement that frees its hold, charges its account and inserts its row.

`functions/settle.sql` computes, under its locks, what each call is charged; the rows are inserted from what it returns,
by the statement that calls it, so that all happens in one transaction and one round trip. Settling is idempotent by
`request_id`. While the database is away, batches are tried again until it is back.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog
from sqlalchemy import ARRAY, Boolean, Integer, Numeric, String, Text, Uuid, cast, column, func, select, true
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.sql import ColumnElement, Insert, bindparam

from app.database import SCHEMA, Database, is_away
from app.ledger.group_commit import GroupCommit
from app.models import ApiCallLog

log = structlog.get_logger(__name__)

LONGEST_PAUSE = 2.0
"""Seconds between two tries while the database is away."""

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
)
"""The columns of a row that an entry holds under their own names. The rest is computed by `settle`."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """`entry`: the row and its `cost`, as a JSON object."""

    request_id: UUID
    entry: bytes


class Settlement:
    def __init__(self, database: Database, *, time_zone: str) -> None:
        self._database = database
        self._statement = _settling(time_zone)
        self._group: GroupCommit[Outcome, None] = GroupCommit(self._settle)
        self.run = self._group.run
        self.drained = self._group.drained

    def submit(self, outcome: Outcome) -> asyncio.Future[None]:
        """The future is done when the row is committed. The outcome is on its way also if nobody waits."""
        return self._group.submit(outcome)

    @property
    def open(self) -> int:
        return self._group.open

    async def _settle(self, outcomes: Sequence[Outcome]) -> Sequence[None]:
        batch = (b"[" + b",".join(outcome.entry for outcome in outcomes) + b"]").decode()
        pause = 0.05
        while True:
            try:
                async with self._database.autocommit() as connection:
                    await connection.execute(self._statement, {"batch": batch})
                return [None] * len(outcomes)
            except Exception as error:
                if not is_away(error):
                    if len(outcomes) == 1:
                        log.error("a call could not be settled", request_id=str(outcomes[0].request_id), error=str(error))
                    raise
                log.warning("settlement waits for the database", calls=self._group.open, error=type(error).__name__)
                await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 (jitter, no secret)
                pause = min(pause * 2, LONGEST_PAUSE)


def _settling(time_zone: str) -> Insert:
    """INSERT INTO api_call_log SELECT ... FROM settle(:batch), jsonb_to_record(entry)."""
    settled = (
        getattr(func, SCHEMA)
        .settle(cast(bindparam("batch", type_=Text()), JSONB()))
        .table_valued(
            column("entry", JSONB()),
            column("api_key_id", Integer()),
            column("charge", Numeric()),
            column("write_off", Numeric()),
            column("bill", Numeric()),
            column("settled_at"),
            name="settled",
        )
    )
    entry = func.jsonb_to_record(settled.c.entry).table_valued(*_FROM_ENTRY, name="entry").render_derived(with_types=True)
    computed: dict[str, ColumnElement[object]] = {
        "api_key_id": settled.c.api_key_id,
        "charge": settled.c.charge,
        "write_off": settled.c.write_off,
        "bill": settled.c.bill,
        "created_at": func.timezone(time_zone, settled.c.settled_at),
    }
    stored = [*(part.name for part in _FROM_ENTRY), *computed]
    source = select(*(entry.c[part.name] for part in _FROM_ENTRY), *computed.values()).select_from(settled).join(entry, onclause=true())
    return insert(ApiCallLog).from_select(stored, source, include_defaults=False)
