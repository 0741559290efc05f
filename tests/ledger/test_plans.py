"""The ledger's statements find rows by their keys, also where their plans were made while the tables were small: such a plan stays
for as long as its connection, and the log grows."""

import asyncio
import json
from collections.abc import Callable
from decimal import Decimal

import asyncpg

from tests.harness.postgres import Database
from tests.ledger.calls import Call, Payer

_RESERVE = "SELECT * FROM aigcspace.reserve($1, $2, $3, $4, $5, $6, $7, $8, gen_random_uuid(), 200, 'UTC')"
_SCANNED = "SELECT relname FROM pg_stat_xact_user_tables WHERE schemaname = 'aigcspace' AND seq_scan > 0"


def test_no_table_is_scanned_to_hold_and_settle_calls(db: Database, new_payer: Callable[..., Payer]) -> None:
    payer = new_payer(credit="1")
    calls = [payer.call("0.01") for _ in range(3)]

    assert asyncio.run(_scanned_by(db.url, calls)) == []


async def _scanned_by(url: str, calls: list[Call]) -> list[str]:
    """Without committing: nothing of it stays."""
    connection = await asyncpg.connect(url.replace("postgresql+asyncpg://", "postgresql://", 1))
    try:
        transaction = connection.transaction()
        await transaction.start()
        holds = [call.hold() for call in calls]
        await connection.fetch(
            _RESERVE,
            [hold.request_id for hold in holds],
            [hold.user_id for hold in holds],
            [hold.key_id for hold in holds],
            [hold.key_hash for hold in holds],
            [Decimal(hold.amount) for hold in holds],
            [hold.tokens for hold in holds],
            [hold.open_ended for hold in holds],
            [hold.entry for hold in holds],
        )
        batch = json.dumps([json.loads(call.outcome().entry) for call in calls])
        settled = await connection.fetch("SELECT * FROM aigcspace.settle($1, 200, 'UTC')", batch)
        assert len(settled) == len(calls)
        scanned = [row["relname"] for row in await connection.fetch(_SCANNED)]
        await transaction.rollback()
    finally:
        await connection.close()
    return scanned
