"""Looks at responses that go on in the background: one is in no other's way, and a few are taken at a time."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, cast
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from app.errors import Unavailable
from app.gateway.answering import background
from app.gateway.answering.background import AT_ONCE, Background
from app.ledger.background import BackgroundCalls, PendingCall

CALLS = 3 * AT_ONCE


class Due(BackgroundCalls):
    """`CALLS` calls, once. `under_way`: looks that were under way when it was asked."""

    def __init__(self, looks: "Looks") -> None:
        self.looks = looks
        self.under_way: list[int] = []
        self.asked_again = asyncio.Event()

    async def take_due(self, *, most: int) -> list[PendingCall]:
        self.under_way.append(self.looks.now)
        if len(self.under_way) > 1:
            self.asked_again.set()
            return []
        return [PendingCall(uuid4(), "u", 1, f"resp_{number}", {}, {}, 1, datetime.now(UTC)) for number in range(CALLS)]


class Looks(Background):
    """The first raises `failure`."""

    def __init__(self, failure: Exception) -> None:
        self.failure = failure
        self.due = self._calls = Due(self)
        self.now = self.most = 0
        self.seen: list[str] = []

    async def look(self, call: PendingCall) -> bool:
        self.seen.append(call.object_id)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            if call.object_id == "resp_0":
                raise self.failure
            for _ in range(20):
                await asyncio.sleep(0)
        finally:
            self.now -= 1
        return True


@pytest.mark.parametrize("failure", [ValueError("it broke"), Unavailable("The database is away.")])
async def test_one_that_raises_keeps_no_other_from_being_looked_at(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    monkeypatch.setattr(background, "POLL", 0.0)
    looks = Looks(failure)
    with capture_logs() as lines:
        running = asyncio.create_task(cast(Any, looks.run()))
        async with asyncio.timeout(15):
            await looks.due.asked_again.wait()
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    assert sorted(looks.seen) == sorted(f"resp_{number}" for number in range(CALLS))
    assert looks.most == AT_ONCE
    assert set(looks.due.under_way) == {0}, "all have ended before more are taken"
    assert [line["event"] for line in lines if "looked at" in line["event"]] == (
        ["a background response was not looked at"] if isinstance(failure, ValueError) else []
    )
