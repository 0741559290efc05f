"""Who is asked may answer a byte at a time: the time that an answer may take is for the whole of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime

import pytest

from app.catalog import offered, probe
from app.errors import UpstreamTimeout
from app.models import Upstream
from app.notify import channels
from app.notify.channels import NotSent, Webhook
from app.reports.outbox import Notice

WITHIN = 0.3
BYTES = 60
"""Which take ten times as long as is waited for, and each of them far less."""


@pytest.fixture
async def address() -> AsyncIterator[str]:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BYTES)
            for _ in range(BYTES):
                if writer.is_closing():  # nobody waits any more
                    break
                writer.write(b" ")
                await asyncio.sleep(WITHIN * 10 / BYTES)
        finally:
            writer.close()
            ended.set()

    ended = asyncio.Event()
    async with await asyncio.start_server(drip, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await ended.wait()
        await asyncio.sleep(0)


async def _webhook(address: str) -> None:
    await Webhook(address, format="json", secret=None).send(Notice("kind", "subject", "text"), id="1", at=datetime.now(UTC))


async def _list(address: str) -> None:
    await offered._ask(Upstream(base_url=address, auth="auto", protocols=None), "", {})


async def _probe(address: str) -> None:
    await probe._ask(address, {}, "m", {})


@pytest.mark.parametrize(("ask", "error"), [(_webhook, NotSent), (_list, UpstreamTimeout), (_probe, TimeoutError)])
async def test_an_answer_that_drips_takes_no_longer_than_one_that_does_not_come(
    monkeypatch: pytest.MonkeyPatch, address: str, ask: Callable[[str], Awaitable[None]], error: type[Exception]
) -> None:
    monkeypatch.setattr(channels, "WITHIN", WITHIN)
    monkeypatch.setattr(offered, "TIMEOUT", WITHIN)
    monkeypatch.setattr(probe, "TIMEOUT", WITHIN)
    with pytest.raises(error):
        await ask(address)
