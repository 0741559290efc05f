"""Replay: outcomes that a process wrote to the spool and did not live to settle.

Any process on the host takes such a segment, one at a time, settles its records, and removes it when all of their rows are
in the database. Settling is idempotent, so that a replay that was itself cut off is done again. A segment that can't be
replayed stays where it is, and is said.
"""

import asyncio
import time
from pathlib import Path

import structlog

from app.ledger.jitter import jittered
from app.ledger.outcome import Outcome
from app.ledger.settlement import Settlement
from app.ledger.spool import AbandonedSegment, Spool

log = structlog.get_logger(__name__)

LOOK_EVERY = 5.0
"""Seconds between two looks for segments; each look is put off at random by up to half of it."""
AT_ONCE = 256
"""Records that are on their way to the database at the same time."""
LATE = 29 * 86_400.0
"""Seconds after which a call's row may have been archived, by a database whose clock is less than a day ahead."""
SAY_EVERY = 5.0
"""Seconds between two lines of progress."""


class Replay:
    def __init__(self, spool: Spool, settlement: Settlement) -> None:
        self._spool = spool
        self._settlement = settlement
        self._given_up: set[Path] = set()
        self._damaged = 0

    @property
    def left(self) -> int:
        """Segments whose calls, or some of them, could not be replayed: they stay, or were set aside as damaged."""
        return len(self._given_up) + self._damaged + self._spool.left_alone

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._look()
            except Exception:
                log.exception("the spool can't be looked through")
            await asyncio.sleep(jittered(LOOK_EVERY))

    async def _look(self) -> None:
        for segment in await asyncio.to_thread(self._spool.abandoned):
            if segment.path in self._given_up:
                segment.release()
            else:
                await self._replay(segment)

    async def _replay(self, segment: AbandonedSegment) -> None:
        done = False
        try:
            outcomes = await asyncio.to_thread(_outcomes_of, segment)
            if outcomes:
                log.info("replaying the spool of a process that has ended", segment=segment.path.name, records=len(outcomes))
            done = await self._settle(segment, outcomes)
        except Exception:
            log.exception("a segment of the spool can't be replayed; it stays", segment=segment.path.name)
        finally:
            if done:
                await asyncio.to_thread(segment.remove)
                self._damaged += bool(segment.damaged)
            else:
                self._given_up.add(segment.path)
                segment.release()

    async def _settle(self, segment: AbandonedSegment, outcomes: list[Outcome]) -> bool:
        """Whether all of them are in the database."""
        settled, said = 0, time.monotonic()
        for start in range(0, len(outcomes), AT_ONCE):
            committed = [self._settlement.submit(outcome) for outcome in outcomes[start : start + AT_ONCE]]
            await asyncio.gather(*committed, return_exceptions=True)
            if any(future.exception() for future in committed):
                log.error("records of the spool could not be settled; the segment stays", segment=segment.path.name)
                return False
            settled += len(committed)
            if time.monotonic() - said > SAY_EVERY:
                said = time.monotonic()
                log.info("replaying", segment=segment.path.name, settled=settled, records=len(outcomes))
        if outcomes:
            log.info("replayed", segment=segment.path.name, records=len(outcomes))
        return True


def _outcomes_of(segment: AbandonedSegment) -> list[Outcome]:
    """What is whole but names no call counts as damaged, so that the segment is set aside and not removed."""
    outcomes, unreadable = [], 0
    for record in segment.read():
        try:
            outcome = Outcome.read(record)
            outcomes.append(outcome.late() if time.time() - outcome.began_at > LATE else outcome)
        except ValueError:
            unreadable += 1
    segment.damaged += unreadable
    return outcomes
