"""What the stand-in upstream puts on the wire, down to the byte: status, headers, pieces, and how it ends."""

import json
import struct
import threading
from asyncio import StreamWriter, sleep
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from socket import SO_LINGER, SOL_SOCKET
from typing import Any, Literal

Split = int | Sequence[int] | Callable[[bytes], list[bytes]]
Event = bytes | str | dict[str, Any]
Ending = Literal["whole", "fin", "rst", "stall"]


class Gate:
    """Holds the stand-in back until the test opens it. Safe to open from any thread, any number of times. `waiting`: answers that it
    holds back."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self.waiting = 0

    def open(self) -> None:
        self._open.set()

    async def passed(self) -> None:
        self.waiting += 1
        try:
            while not self._open.is_set():
                await sleep(0.002)
        finally:
            self.waiting -= 1


@dataclass(frozen=True)
class Usage:
    """Counts as an OpenAI-compatible model reports them: the parts are contained in the wholes."""

    input: int = 0
    output: int = 0
    cached: int = 0
    reasoning: int = 0

    def chat(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.input,
            "completion_tokens": self.output,
            "total_tokens": self.input + self.output,
            "prompt_tokens_details": {"cached_tokens": self.cached},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning},
        }


@dataclass(kw_only=True)
class Answer:
    """One answer. `pieces` are written one by one, each as one chunk when `framing` is `chunked`."""

    pieces: list[bytes]
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    framing: Literal["length", "chunked", "close", "raw"] = "length"
    ending: Ending = "whole"
    before: Gate | None = None
    pauses: dict[int, Gate] = field(default_factory=dict)
    gap: float = 0.0
    usage: Usage | None = None

    async def write(self, to: StreamWriter, before_last: Callable[[], None]) -> None:
        """Puts the answer on the wire; `before_last` is called before the last piece, which whoever reads may act on at
        once. Afterwards the connection is fit for another answer only if `reusable`."""
        if self.before is not None:
            await self.before.passed()
        if self.framing != "raw":
            to.write(self._head())
        for index, piece in enumerate(self.pieces):
            if index in self.pauses:
                await to.drain()
                await self.pauses[index].passed()
            if index == len(self.pieces) - 1:
                before_last()
            to.write(b"%x\r\n%b\r\n" % (len(piece), piece) if self.framing == "chunked" and piece else piece)
            await to.drain()
            if self.gap:
                await sleep(self.gap)
        await self._end(to)

    @property
    def reusable(self) -> bool:
        return self.ending == "whole" and self.framing in ("length", "chunked")

    def _head(self) -> bytes:
        headers = {"content-type": "application/json"} | {name.lower(): value for name, value in self.headers.items()}
        if self.framing == "length":
            headers.setdefault("content-length", str(sum(map(len, self.pieces))))
        elif self.framing == "chunked":
            headers["transfer-encoding"] = "chunked"
        else:
            headers["connection"] = "close"
        lines = [f"HTTP/1.1 {self.status} Stand-in", *(f"{name}: {value}" for name, value in headers.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    async def _end(self, to: StreamWriter) -> None:
        if self.ending == "whole" and self.framing == "chunked":
            to.write(b"0\r\n\r\n")
            await to.drain()
        elif self.ending == "stall":
            await Gate().passed()
        elif self.ending == "rst":
            await sleep(0.05)  # what was written must leave before the reset overtakes it
            to.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
            to.transport.abort()


def sse(event: Event) -> bytes:
    """A dict or text becomes the data of one event; bytes go as they are."""
    if isinstance(event, bytes):
        return event
    data = event if isinstance(event, str) else json.dumps(event, separators=(",", ":"), ensure_ascii=False)
    return f"data: {data}\n\n".encode()


def resplit(pieces: Iterable[bytes], split: Split | None) -> list[bytes]:
    """The same bytes cut elsewhere: every `split` bytes, at the offsets of `split`, or as a function of them says."""
    if split is None:
        return list(pieces)
    whole = b"".join(pieces)
    if callable(split):
        return split(whole)
    offsets = range(split, len(whole), split) if isinstance(split, int) else split
    edges = [0, *offsets, len(whole)]
    return [whole[start:end] for start, end in pairwise(edges)]
