"""A small load of chat calls, unary and streamed in turn, and what the clients saw of each.

    with Load(proxy.url, key=scene.key, model=scene.model, in_flight=4) as load:   # until the block ends
        kill(proxy)
        load.url = start_again().url
    assert_seen(load.seen)

    seen = Load(proxy.url, key=..., model=..., calls=50).run()                      # that many

It runs on an event loop in a thread of its own. Whatever happens to a call is written down, and the next one goes on: after
a pause, which is longer where there was no connection.
"""

import asyncio
import json
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from typing import Any, Self

import aiohttp

from tests.harness.scale import IS_FULL

PAUSE = 0.05
"""Seconds, after a call that got no connection."""
BREATH = 0.0 if IS_FULL else 0.03
"""Seconds, after an answer."""


@dataclass
class Seen:
    """What one client saw. `request_id`: of the answer's header. `status` None: no answer began. `is_whole`: the answer
    came to its own end. `usage`: as in the answer. `error`: of the connection, or else of the answer's own envelope.
    `started`, `ended`: of `time.monotonic()`."""

    is_stream: bool
    started: float
    ended: float = 0.0
    request_id: str | None = None
    status: int | None = None
    is_whole: bool = False
    usage: dict[str, Any] | None = None
    error: str | None = None

    @property
    def is_success(self) -> bool:
        return self.status == 200 and self.is_whole


class Load:
    """`key`: one platform key, or several that take turns. `streams`: the share of calls that are streamed, of each ten.
    `calls`: how many in all; None: until the block ends. `fields` go into each request body."""

    def __init__(
        self,
        url: str,
        *,
        key: str | Sequence[str],
        model: str,
        in_flight: int = 4,
        calls: int | None = None,
        streams: int = 5,
        pause: float = BREATH,
        patience: float = 30.0,
        **fields: Any,
    ) -> None:
        self.url = url  # may be set to another while it runs
        self.seen: list[Seen] = []
        self._keys = [key] if isinstance(key, str) else list(key)
        self._body = {"model": model} | fields
        self._in_flight = in_flight
        self._calls = calls
        self._streams = streams
        self._pause = pause
        self._patience = patience
        self._numbers = count()
        self._stopping = threading.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="load")
        self._done: Future[None] | None = None

    def __enter__(self) -> Self:
        self._done = self._thread.submit(asyncio.run, self._all())
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def run(self, within: float = 120.0) -> list[Seen]:
        """Makes all of `calls`."""
        assert self._calls is not None
        with self:
            return self.wait(within)

    def wait(self, within: float = 120.0) -> list[Seen]:
        """Returns when all calls have ended."""
        assert self._done is not None
        self._done.result(within)
        return self.seen

    def stop(self) -> list[Seen]:
        """No call starts any more; returns when those in flight have ended."""
        self._stopping.set()
        self._thread.shutdown(wait=False)
        return self.wait(self._patience + 10)

    @property
    def successes(self) -> int:
        return sum(seen.is_success for seen in list(self.seen))

    async def _all(self) -> None:
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=self._patience)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as session:
            await asyncio.gather(*(self._one_client(session) for _ in range(self._in_flight)))

    async def _one_client(self, session: aiohttp.ClientSession) -> None:
        while not self._stopping.is_set():
            number = next(self._numbers)
            if self._calls is not None and number >= self._calls:
                return
            seen = Seen(is_stream=number % 10 < self._streams, started=time.monotonic())
            try:
                await self._call(session, seen, number)
            except (aiohttp.ClientError, OSError, TimeoutError) as broken:
                seen.error = f"{type(broken).__name__}: {broken}"
            seen.ended = time.monotonic()
            self.seen.append(seen)
            await asyncio.sleep(PAUSE if seen.status is None else self._pause)

    async def _call(self, session: aiohttp.ClientSession, seen: Seen, number: int) -> None:
        words = " ".join(["word"] * (1 + number % 17))  # so that not all cost the same
        body = self._body | {"messages": [{"role": "user", "content": words}]}
        if seen.is_stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        headers = {"Authorization": f"Bearer {self._keys[number % len(self._keys)]}"}
        async with session.post(f"{self.url}/v1/chat/completions", json=body, headers=headers) as answer:
            seen.status, seen.request_id = answer.status, answer.headers.get("X-Request-ID")
            content = await answer.read()
        if seen.is_stream and answer.status == 200:
            _read_stream(seen, content)
        else:
            _read_body(seen, json.loads(content))


def _read_body(seen: Seen, answer: dict[str, Any]) -> None:
    seen.is_whole = True
    seen.usage = answer.get("usage")
    seen.error = json.dumps(answer["error"]) if "error" in answer else None


def _read_stream(seen: Seen, content: bytes) -> None:
    """Whole is a stream that says so: a clean end of the connection alone is none."""
    events = [event.removeprefix(b"data: ") for event in content.split(b"\n\n") if event.startswith(b"data: ")]
    seen.is_whole = bool(events) and events[-1] == b"[DONE]" and content.endswith(b"\n\n")
    for event in events:
        if event.startswith(b"{") and event.endswith(b"}"):
            told = json.loads(event)
            seen.usage = told.get("usage") or seen.usage
            seen.error = json.dumps(told["error"]) if "error" in told else seen.error
