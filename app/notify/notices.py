"""What has happened goes to the outbox, and from there out.

Notices wait in memory until the outbox has them. While the database is away, those that say so are sent straight away, by each
process for itself; the rest waits, as far as there is room. What can't be sent is tried again for hours; why, is in `error` of its row.
"""

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime

import structlog
from uuid_utils.compat import uuid7

from app.errors import Unavailable
from app.notify.channels import Channel, NotSent
from app.reports.outbox import Notice, Outbox

log = structlog.get_logger(__name__)

EVERY = 1.0
"""Seconds between two looks."""
FORGET_EVERY = 3600.0
MOST_WAITING = 100
MOST_AT_ONCE = 10
TOLD_WITHOUT_DATABASE = frozenset({"spool_growing"})


class Notices:
    """`again`: seconds for which the same isn't told again. Without channels nothing is told, and nothing kept."""

    def __init__(self, outbox: Outbox, channels: Mapping[str, Channel], *, again: float) -> None:
        self._outbox = outbox
        self.channels = channels
        self._again = again
        self._waiting: dict[tuple[str, str], Notice] = {}
        self._told: dict[tuple[str, str], float] = {}
        self._forgot_at = 0.0

    def add(self, notice: Notice) -> None:
        """Not a coroutine, so that it can be called anywhere."""
        key, now = (notice.kind, notice.subject), time.monotonic()
        if not self.channels or key in self._waiting or len(self._waiting) >= MOST_WAITING:
            return
        if now - self._told.get(key, -self._again) >= self._again:
            self._waiting[key] = notice

    async def run(self) -> None:
        """Until cancelled."""
        while self.channels:
            try:
                await self._put_all()
                await self._send_due()
                await self._forget()
            except Unavailable:
                await self._send_without_database()
            except Exception:
                log.exception("notifications could not be handled, and are tried again")
            await asyncio.sleep(EVERY)

    async def _put_all(self) -> None:
        for key, notice in list(self._waiting.items()):
            await self._outbox.put(notice, self.channels.keys())
            self._was_told(key)

    async def _send_due(self) -> None:
        for due in await self._outbox.take_due(self.channels.keys(), most=MOST_AT_ONCE):
            try:
                await self.channels[due.channel].send(due.notice, id=f"{due.id}", at=due.at)
            except NotSent as failed:
                log.warning("a notification could not be sent", channel=due.channel, kind=due.notice.kind, reason=str(failed))
                await self._outbox.failed(due.id, str(failed))
            else:
                await self._outbox.sent(due.id)

    async def _send_without_database(self) -> None:
        for key, notice in list(self._waiting.items()):
            if notice.kind not in TOLD_WITHOUT_DATABASE:
                continue
            for name, channel in self.channels.items():
                try:
                    await channel.send(notice, id=str(uuid7()), at=datetime.now(UTC))
                    self._was_told(key)
                except NotSent as failed:
                    log.warning("a notification could not be sent", channel=name, kind=notice.kind, reason=str(failed))

    async def _forget(self) -> None:
        now = time.monotonic()
        if now - self._forgot_at < FORGET_EVERY:
            return
        self._forgot_at = now
        self._told = {key: at for key, at in self._told.items() if now - at < self._again}
        await self._outbox.forget_old()

    def _was_told(self, key: tuple[str, str]) -> None:
        self._waiting.pop(key, None)
        self._told[key] = time.monotonic()
