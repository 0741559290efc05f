"""What looks at this process for its operators goes on whatever a look runs into."""

import asyncio
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from app.catalog.routing import EMPTY
from app.gateway.forwarding.breaker import Breakers
from app.gateway.watching import watch
from app.gateway.watching.watch import Watch
from app.metrics import Metrics


class BreakingSpool:
    """Raises at the first look. `looked_at_again`: at the second."""

    accepting = True

    def __init__(self) -> None:
        self.looks = 0
        self.looked_at_again = asyncio.Event()

    @property
    def oldest(self) -> None:
        self.looks += 1
        if self.looks == 1:
            raise KeyError("it broke")
        self.looked_at_again.set()


async def test_an_unexpected_error_is_logged_and_the_next_look_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "EVERY", 0.0)
    gateway = SimpleNamespace(
        metrics=Metrics(),
        failover=SimpleNamespace(breakers=Breakers(pause=1.0)),
        admitter=SimpleNamespace(catalog=SimpleNamespace(snapshot=EMPTY)),
    )
    spool = BreakingSpool()
    nobody: Any = None
    with capture_logs() as lines:
        running = asyncio.create_task(Watch(nobody, cast(Any, gateway), cast(Any, spool), nobody, low_balance=None).run())
        again = asyncio.create_task(spool.looked_at_again.wait())
        await asyncio.wait([running, again], timeout=15, return_when=asyncio.FIRST_COMPLETED)
        for task in (running, again):
            task.cancel()
        with suppress(asyncio.CancelledError):
            await running

    assert spool.looked_at_again.is_set()
    assert [(line["event"], line["log_level"]) for line in lines] == [("what is notified was not looked at, and is again", "error")]
