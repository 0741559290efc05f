"""A server that says what it is told to, byte for byte, and nothing else: for the client of upstreams alone.

Runs on uvloop, as the proxy does.
"""

import asyncio
import functools
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import uvloop

from app.gateway.forwarding.http1 import Client, Exchange

Step = bytes | Literal["fin", "rst", "stall", "unread"]
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
PATIENCE = 10.0


def on_uvloop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(PATIENCE):
                await test(*arguments, **named)

        uvloop.run(bounded())

    return run


@dataclass
class RawServer:
    """`requests`: as they came, and by the number of which connection. `ended`: numbers of connections that clients closed.
    `names`: what TLS clients asked for."""

    url: str = ""
    answers: list[tuple[Step, ...]] = field(default_factory=list)
    requests: list[tuple[int, bytes]] = field(default_factory=list)
    ended: set[int] = field(default_factory=set)
    names: list[str | None] = field(default_factory=list)
    connections: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.changed.clear()
            await self.changed.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = self.connections
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                answer = self.answers.pop(0)
                size = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
                body = b"" if "unread" in answer else await reader.readexactly(size)
                self.requests.append((number, head + body))
                self.changed.set()
                for step in answer:
                    await self._take(step, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.ended.add(number)
            self.changed.set()
        finally:
            writer.close()

    async def _take(self, step: Step, writer: asyncio.StreamWriter) -> None:
        if isinstance(step, bytes):
            writer.write(step)
            await writer.drain()
        elif step == "rst":
            made = writer.get_extra_info("socket")
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            raise ConnectionResetError
        elif step == "fin":
            writer.close()
            raise ConnectionResetError
        elif step == "stall":
            await asyncio.Event().wait()


@asynccontextmanager
async def raw_server(*answers: tuple[Step, ...], host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> AsyncIterator[RawServer]:
    """Each request, by whatever connection, gets the next of the answers."""
    told = RawServer(answers=list(answers))
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            await told.serve(reader, writer)
        except asyncio.CancelledError:
            pass
        finally:
            serving.discard(task)

    if tls is not None:
        tls.sni_callback = lambda _socket, name, _context: told.names.append(name)
    server = await asyncio.start_server(serve, host, 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    told.url = f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
    try:
        yield told
    finally:
        server.close()
        for task in list(serving):
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


@asynccontextmanager
async def client(
    *, connect: float = PATIENCE, idle: float = PATIENCE, total: float = PATIENCE, allow_link_local: bool = False
) -> AsyncIterator[Client]:
    made = Client(connect_timeout=connect, idle_timeout=idle, total_timeout=total, allow_link_local=allow_link_local)
    try:
        yield made
    finally:
        made.close()


async def body_of(exchange: Exchange) -> bytes:
    body = b""
    while piece := await exchange.read():
        body += piece
    return body
