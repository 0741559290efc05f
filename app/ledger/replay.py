"""Replay: outcomes that a process wrote to the spool and did not live to settle.

Any process on the host takes such a segment, one at a time, settles its records, and removes it when all of their rows are
in the database. Settling is idempotent, so that a replay that was itself cut off is done again. A segment that can't be
replayed stays where it is, and is said.
"""

import asyncio
import random
import time
from collections.abc import Iterator
from pathlib import Path

import structlog

from app.ledger.outcome import Outcome
from app.ledger.settlement import Settlement
from app.ledger.spool import AbandonedSegment, Spool

log = structlog.get_logger(__name__)

LOOK_EVERY = 5.0
"""Seconds between two looks for segments; each look is put off at random by up to half of it."""
AT_ONCE = 256
"""Records that are on their way to the database at the same time."""
SAY_EVERY = 5.0
"""Seconds between two lines of progress."""


class Replay:
    def __init__(self, spool: Spool, settlement: Settlement) -> None:
        self._spool = spool
        self._settlement = settlement
        self._given_up: set[Path] = set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            for segment in await asyncio.to_thread(self._spool.abandoned):
                if segment.path in self._given_up:
                    segment.release()
                else:
                    await self._replay(segment)
            await asyncio.sleep(LOOK_EVERY * random.uniform(0.5, 1))  # noqa: S311 (jitter, no secret)

    async def _replay(self, segment: AbandonedSegment) -> None:
        done = False
        try:
            records = await asyncio.to_thread(lambda: list(segment.read()))
            log.info("replaying the spool of a process that has ended", segment=segment.path.name, records=len(records))
            done = await self._settle(segment, records)
        except OSError as unreadable:
            log.error("a segment of the spool can't be read", segment=segment.path.name, error=str(unreadable))
        finally:
            if done:
                segment.remove()
            else:
                self._given_up.add(segment.path)
                segment.release()

    async def _settle(self, segment: AbandonedSegment, records: list[bytes]) -> bool:
        """Whether all of them are in the database."""
        settled, said = 0, time.monotonic()
        for start in range(0, len(records), AT_ONCE):
            some = records[start : start + AT_ONCE]
            committed = [self._settlement.submit(outcome) for outcome in _readable(some)]
            await asyncio.gather(*committed, return_exceptions=True)
            if any(future.exception() for future in committed):
                log.error("records of the spool could not be settled; the segment stays", segment=segment.path.name)
                return False
            settled += len(some)
            if time.monotonic() - said > SAY_EVERY:
                said = time.monotonic()
                log.info("replaying", segment=segment.path.name, settled=settled, records=len(records))
        log.info("replayed", segment=segment.path.name, records=len(records))
        return True


def _readable(records: list[bytes]) -> Iterator[Outcome]:
    for record in records:
        try:
            yield Outcome.read(record)
        except ValueError:
            log.error("a record of the spool names no call", size=len(record))
