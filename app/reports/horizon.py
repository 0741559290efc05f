"""Up to where the call log is final: whoever follows it, oldest first, goes no further, and so misses no row.

Rows are committed in another order than they are dated. Which dates may still come is known by who writes: a settlement takes its
lock on the table first and its time after that. So once all who had the lock at an instant are gone, no row from before it
comes any more. Identifiers of transactions say less: a row's is taken long before or after its date, and that of any other
writer on the server, however long it takes, would hold this back.

A writer that takes longer than `WAIT` is waited for no more: what is older than its transaction is final all the same. Rows that
the platform dates back itself may come late.
"""

import asyncio
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import ARRAY, Text, bindparam, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import SCHEMA

WAIT = 0.5
"""Seconds."""
_LOOK = 0.005
_UNTOLD = timedelta(hours=1)
"""How old a writer's transaction is taken to be that this user may not see: it is another user's, or a prepared one."""
_REPEATED = timedelta(hours=3)
"""Longer than any clock is set back by."""

_WRITERS = text(f"""
    SELECT virtualtransaction, xact_start
    FROM pg_locks LEFT JOIN pg_stat_activity USING (pid)
    WHERE relation = '{SCHEMA}.api_call_log'::regclass AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND locktype = 'relation' AND granted AND pid IS DISTINCT FROM pg_backend_pid()
        AND mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
        AND (:seen IS NULL OR virtualtransaction = ANY (:seen))
""").bindparams(bindparam("seen", type_=ARRAY(Text())))


async def final_before(session: AsyncSession, *, zone: str) -> datetime:
    """As `created_at` is stored, in `zone`: no row from before it is still to come. The session must not be one of a single
    snapshot: what is read next must see what was waited for."""
    now: datetime = (await session.execute(select(func.clock_timestamp()))).scalar_one()
    waited, writers = 0.0, await _writers(session, None)
    while writers and waited < WAIT:
        await asyncio.sleep(_LOOK)
        waited += _LOOK
        writers = await _writers(session, list(writers))
    began = [start or now - _UNTOLD for start in writers.values()]
    return earliest_to_come(min([now, *began]), zone)


def earliest_to_come(moment: datetime, zone: str) -> datetime:
    """The least that clocks of the zone show from now on: where they are about to be set back, that is less than now."""
    steps = range(int(_REPEATED / timedelta(minutes=15)) + 1)
    return min((moment + step * timedelta(minutes=15)).astimezone(ZoneInfo(zone)).replace(tzinfo=None) for step in steps)


async def _writers(session: AsyncSession, seen: list[str] | None) -> dict[str, datetime | None]:
    rows = await session.execute(_WRITERS, {"seen": seen})
    return {row.virtualtransaction: row.xact_start for row in rows}
