"""The stand-in upstream: a real HTTP server on loopback that answers honestly, or misbehaves on command.

    with StandIn() as upstream:
        upstream.answer(json={"error": ...}, status=429, headers={"Retry-After": "1"})  # the next call only
        upstream.stream([event, event], split=7, pauses={1: gate})                      # byte-exact chunks
        upstream.cut([event, event], after=1, how="rst")                                # breaks in the middle
        upstream.raw(b"SSH-2.0-OpenSSH\\r\\n")                                            # no HTTP at all
        gate = upstream.hold()                                                          # no answers until gate.open()

Scripted answers are used up in order, one a call; with none left the honest model (`tests.harness.honest`) answers.
`requests` holds all that arrived, byte for byte, `ledger` the usage of every answer whose last byte was sent. What was
put into `kept` is answered by its id, whatever is scripted.
"""

import asyncio
import json as json_module
import threading
from collections import deque
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import parse_qsl, urlsplit

from tests.harness import honest
from tests.harness.answers import Answer, Event, Gate, Split, Usage, resplit, sse
from tests.harness.kept import Kept

STREAM = "text/event-stream; charset=utf-8"


@dataclass
class Received:
    """One request as it arrived. `gone` is set when the caller hangs up before its answer is out."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    gone: threading.Event = field(default_factory=threading.Event)
    answered: threading.Event = field(default_factory=threading.Event)

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query))

    @property
    def json(self) -> Any:
        return json_module.loads(self.body)

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name.lower()), None)


class StandIn:
    """The server runs in a thread of its own, so that synchronous tests are served too."""

    def __init__(self) -> None:
        self.requests: list[Received] = []
        self.ledger: list[Usage] = []
        self.kept = Kept()
        self._script: deque[Answer] = deque()
        self._always: Answer | None = None
        self._hold: Gate | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stand-in", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        starting = asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result(10)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    # what a test says

    def answer(
        self,
        *,
        json: Any = None,
        body: bytes | None = None,
        status: int = 200,
        headers: dict[str, str] | None = None,
        before: Gate | None = None,
        usage: Usage | None = None,
        always: bool = False,
    ) -> Answer:
        """The next call (with `always`: each from now on) gets this body, with its length."""
        whole = json_module.dumps(json).encode() if body is None else body
        answer = Answer(pieces=[whole], status=status, headers=headers or {}, before=before, usage=usage)
        return self._next(answer, always=always)

    def stream(
        self,
        events: list[Event],
        *,
        split: Split | None = None,
        pauses: dict[int, Gate] | None = None,
        gap: float = 0.0,
        status: int = 200,
        content_type: str = STREAM,
        headers: dict[str, str] | None = None,
        usage: Usage | None = None,
    ) -> Answer:
        """One chunk an event, or cut as `split` says; `pauses[i]` is waited for before piece `i`."""
        pieces = resplit(map(sse, events), split)
        return self._next(
            Answer(
                pieces=pieces,
                status=status,
                headers={"content-type": content_type} | (headers or {}),
                framing="chunked",
                pauses=pauses or {},
                gap=gap,
                usage=usage,
            )
        )

    def cut(self, events: list[Event], *, after: int, how: Literal["fin", "rst", "stall"] = "rst", bytes_of_next: int = 0) -> Answer:
        """Sends `after` events and `bytes_of_next` bytes of the one that follows, then closes, resets or is silent."""
        pieces = [*map(sse, events[:after])]
        if bytes_of_next:
            pieces.append(sse(events[after])[:bytes_of_next])
        return self._next(Answer(pieces=pieces, headers={"content-type": STREAM}, framing="chunked", ending=how))

    def raw(self, wire: bytes, *, how: Literal["fin", "rst", "stall"] = "fin") -> Answer:
        """Exactly these bytes on the connection, status line and all, then the end."""
        return self._next(Answer(pieces=[wire], framing="raw", ending=how))

    def silence(self) -> Answer:
        """Takes the call and never answers."""
        return self.raw(b"", how="stall")

    def hold(self) -> Gate:
        """From now on calls are taken but not answered, until the gate opens."""
        self._hold = Gate()
        return self._hold

    def always(self, answer: Answer | None) -> None:
        """What each call gets from now on that nothing else is scripted for; None: the honest model's answers."""
        self._always = answer

    def refuse(self) -> None:
        """From now on nobody listens there, and what was connected isn't any longer."""
        asyncio.run_coroutine_threadsafe(self._hang_up(), self._loop).result(10)

    def listen(self) -> None:
        """Again, where it did before."""
        port = int(self.url.rpartition(":")[2])
        starting = asyncio.start_server(self._serve, "127.0.0.1", port, backlog=1024)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result(10)

    def _next(self, answer: Answer, *, always: bool = False) -> Answer:
        if always:
            self._always = answer
        else:
            self._script.append(answer)
        return answer

    # what the wire sees

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while (received := await _read(reader)) is not None:
                self.requests.append(received)
                if not await self._reply(received, reader, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(task)
            writer.close()

    async def _reply(self, received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answers; False when the connection can't be used again."""
        answer = self.kept.answer(received.method, received.path) or self._scripted()
        answer = answer or honest.reply(received.path, received.body, received.query)
        if self._hold is not None and answer.before is None:
            answer.before = self._hold

        def write_down() -> None:
            if answer.usage is not None and answer.ending == "whole":
                self.ledger.append(answer.usage)

        writing = asyncio.ensure_future(answer.write(writer, write_down))
        leaving = asyncio.ensure_future(_hung_up(reader))
        try:
            await asyncio.wait({writing, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not writing.done():
                received.gone.set()
                return False
            writing.result()
        except ConnectionError:
            received.gone.set()
            return False
        finally:
            writing.cancel()
            leaving.cancel()
            await asyncio.gather(writing, leaving, return_exceptions=True)
        received.answered.set()
        return answer.reusable

    def _scripted(self) -> Answer | None:
        return self._script.popleft() if self._script else self._always

    async def _hang_up(self) -> None:
        self._server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _stop(self) -> None:
        await self._hang_up()
        await self._loop.shutdown_asyncgens()


async def _hung_up(reader: asyncio.StreamReader) -> None:
    """Watches without reading: the next request on the connection may be coming in already."""
    while not reader.at_eof() and reader.exception() is None:
        await asyncio.sleep(0.003)


async def _read(reader: asyncio.StreamReader) -> Received | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    request_line, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, target, _ = request_line.split(" ", 2)
    headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    known = dict(headers)
    if known.get("transfer-encoding", "").lower() == "chunked":
        body = await _read_chunks(reader)
    else:
        body = await reader.readexactly(int(known.get("content-length", "0")))
    return Received(method, target, headers, body)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    chunks = []
    while size := int((await reader.readline()).split(b";")[0], 16):
        chunks.append((await reader.readexactly(size + 2))[:-2])
    await reader.readline()
    return b"".join(chunks)
