"""The load generator: closed loop (always so many in flight) or open loop (calls arrive at a rate, whoever is ready).

    python -m bench.load --url http://127.0.0.1:8000/v1/chat/completions --key sk-… --connections 32 --seconds 5
    python -m bench.load --url … --key … --connections 64 --rate 200 --seconds 5 --calls-file calls.ndjson

Prints a JSON summary. Of the streams, every second call asks for usage. Latency counts from the moment at which a call
was due: in the open loop a call that waits for a connection has that wait in its latency. Ends by itself: after the
time or the calls given it waits `GRACE` seconds for what is in flight, and reports the rest as `unfinished`.
"""

import argparse
import asyncio
import itertools
import random
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import uvloop

from bench.client import Connection, Outcome, Request, chat_request
from bench.report import Call, Summary, summarise

GRACE = 30.0
RECONNECTS = 1000
_RECONNECT_PAUSE = 0.05


@dataclass(frozen=True)
class Options:
    """`rate` 0 is the closed loop. `calls` 0 is no bound on their number; `seconds` always bounds the time."""

    url: str
    keys: tuple[str, ...]
    connections: int
    seconds: float
    calls: int = 0
    rate: float = 0.0
    arrivals: str = "poisson"
    stream: bool = False
    paced: bool = False
    headers: tuple[str, ...] = ()
    judges: bool = True


class Load:
    """Owns the connections and decides, each time that one is free, what it does next."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._loop = asyncio.get_running_loop()
        address = urlsplit(options.url)
        self._host, self._port = address.hostname or "127.0.0.1", address.port or 80
        self._path = address.path or "/"
        self.outcomes: list[Outcome] = []
        self._free: deque[Connection] = deque()
        self._waiting: deque[float] = deque()
        self._issued = 0
        self._ended = False
        self._deadline = 0.0
        self._drained = asyncio.Event()
        self._reconnects: set[asyncio.Task[None]] = set()
        self._reconnects_left = RECONNECTS

    @property
    def unfinished(self) -> int:
        return self._issued - len(self.outcomes) + len(self._waiting)

    async def run(self) -> float:
        """Runs to the end and returns the seconds from the first call's start to the last one's end."""
        await asyncio.gather(*(self._connect(self._requests(number)) for number in range(self._options.connections)))
        begin = time.perf_counter()
        self._deadline = begin + self._options.seconds
        if self._options.rate:
            threading.Thread(target=self._keep_schedule, args=(begin,), daemon=True).start()
        else:
            self._loop.call_later(self._options.seconds, self._end)
            for _ in range(len(self._free)):
                self._released(self._free.popleft())
        try:
            await asyncio.wait_for(self._drained.wait(), self._options.seconds + GRACE)
        except TimeoutError:
            print(f"{self.unfinished} calls did not finish", file=sys.stderr)
        return (self.outcomes[-1].end if self.outcomes else time.perf_counter()) - begin

    def _requests(self, number: int) -> "itertools.cycle[Request]":
        key = self._options.keys[number % len(self._options.keys)]
        host, stream = f"{self._host}:{self._port}", self._options.stream
        asked = (False, True) if stream else (False,)
        return itertools.cycle(
            chat_request(
                host,
                self._path,
                key,
                stream=stream,
                include_usage=include_usage,
                paced=self._options.paced,
                headers=self._options.headers,
            )
            for include_usage in asked
        )

    async def _connect(self, requests: "itertools.cycle[Request]") -> None:
        judges = self._options.judges
        _, connection = await self._loop.create_connection(
            lambda: Connection(requests, self._finished, self._lost, judges), self._host, self._port
        )
        self._free.append(connection)

    def _keep_schedule(self, begin: float) -> None:
        """In a thread, because the loop's own timers tick in milliseconds, as long as a call takes."""
        for due in itertools.takewhile(lambda at: at < self._deadline, _schedule(self._options, begin)):
            time.sleep(max(0.0, due - time.perf_counter()))
            self._loop.call_soon_threadsafe(self._arrive, due)
        self._loop.call_soon_threadsafe(self._end)

    def _arrive(self, due: float) -> None:
        while self._free:
            connection = self._free.popleft()
            if connection.usable:
                self._send(connection, due)
                return
        self._waiting.append(due)

    def _send(self, connection: Connection, due: float) -> None:
        self._issued += 1
        connection.send(due)

    def _finished(self, connection: Connection, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        if connection.usable:
            self._released(connection)
        self._end_if_drained()

    def _released(self, connection: Connection) -> None:
        closed_loop = not self._options.rate
        if self._waiting:
            self._send(connection, self._waiting.popleft())
        elif closed_loop and not self._ended:
            self._send(connection, time.perf_counter())
            self._ended = 0 < self._options.calls <= self._issued
        else:
            self._free.append(connection)

    def _lost(self, connection: Connection) -> None:
        if self._reconnects_left and not self._drained.is_set():
            self._reconnects_left -= 1
            task = self._loop.create_task(self._reconnect(connection.requests))
            self._reconnects.add(task)
            task.add_done_callback(self._reconnects.discard)

    async def _reconnect(self, requests: "itertools.cycle[Request]") -> None:
        while not self._drained.is_set():
            await asyncio.sleep(_RECONNECT_PAUSE)
            try:
                await self._connect(requests)
            except OSError:
                continue
            self._released(self._free.pop())
            return

    def _end(self) -> None:
        self._ended = True
        self._end_if_drained()

    def _end_if_drained(self) -> None:
        if self._ended and not self.unfinished:
            self._drained.set()


def _schedule(options: Options, begin: float) -> Iterator[float]:
    """When calls are due. The seed is fixed: every run meets the same arrivals."""
    chance = random.Random(20)
    due = begin
    for _ in itertools.count() if not options.calls else range(options.calls):
        due += chance.expovariate(options.rate) if options.arrivals == "poisson" else 1 / options.rate
        yield due


async def run(options: Options) -> tuple[Summary, list[Call]]:
    load = Load(options)
    seconds = await load.run()
    return summarise(load.outcomes, seconds, load.unfinished), [Call.of(outcome) for outcome in load.outcomes]


def main() -> None:
    parser = argparse.ArgumentParser(description="A load generator for chat completions.")
    parser.add_argument("--url", required=True)
    parser.add_argument("--key", action="append", default=[], help="may be repeated; connections share them in turn")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--calls", type=int, default=0, help="stop after so many calls, if the time is not over before")
    parser.add_argument("--rate", type=float, default=0.0, help="calls a second (open loop); 0: closed loop")
    parser.add_argument("--arrivals", choices=("poisson", "fixed"), default="poisson")
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--paced", action="store_true", help="the stand-in takes its time for the events of a stream")
    parser.add_argument("--header", action="append", default=[], help="`name: value`, beside the usual ones; may be repeated")
    parser.add_argument("--any-answer", action="store_true", help="an answer must be whole, and may be written anew")
    parser.add_argument("--calls-file", type=Path, help="every call's id and counts, as NDJSON")
    given = parser.parse_args()
    options = Options(
        url=given.url,
        keys=tuple(given.key) or ("none",),
        connections=given.connections,
        seconds=given.seconds,
        calls=given.calls,
        rate=given.rate,
        arrivals=given.arrivals,
        stream=given.stream,
        paced=given.paced,
        headers=tuple(given.header),
        judges=not given.any_answer,
    )
    summary, calls = uvloop.run(run(options))
    if given.calls_file is not None:
        given.calls_file.write_bytes(b"".join(msgspec.json.encode(call) + b"\n" for call in calls))
    sys.stdout.buffer.write(msgspec.json.encode(summary) + b"\n")


if __name__ == "__main__":
    main()
