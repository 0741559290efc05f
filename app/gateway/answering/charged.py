"""What a client was charged for a call that has just been settled, for telling it in the answer."""

import asyncio
from decimal import Decimal

import structlog

from app.database import Database
from app.errors import Unavailable
from app.gateway.call_record import CallRecord
from app.reports.spending import charge_of

log = structlog.get_logger(__name__)


async def charged(database: Database, record: CallRecord, *, longest_wait: float) -> Decimal | None:
    """Its cost. Of one above what was held, the ledger says how much the account could pay: its row is read, and None is
    returned where it can't be read within `longest_wait` seconds."""
    if record.cost is None or record.cost <= record.ceiling:
        return record.cost
    try:
        async with asyncio.timeout(longest_wait), database.reading() as session:
            return await charge_of(session, request_id=record.request_id)
    except (Unavailable, TimeoutError):
        log.warning("what a call was charged can't be told in its answer", request_id=str(record.request_id))
        return None
