"""A tap on the bytes that pass from the upstream to the client.

It keeps what is needed to bill the call, in constant memory, and says what must wait: the end of a stream's terminal
event and the last byte of any other body stay here until the call's row is committed.
"""

import re
import zlib
from dataclasses import dataclass, field

from app.billing.usage import Usage
from app.gateway.protocols import Protocol

LARGEST_EVENT = 262_144
"""Bytes of an unfinished event that wait for its end; a larger one passes as it comes, unread."""
LARGEST_COPY = 8 * 1024 * 1024
"""Bytes of a unary answer that are kept whole; of a larger one, the end."""
KEPT_END = 65_536

_BOUNDARY = re.compile(rb"\r\n\r\n|\n\n|\r\r|\n\r\n")


@dataclass(slots=True)
class StreamMeter:
    """Passes whole events on, at once. `strips`: an event that is there only because we asked for usage is taken out.

    `delivered` holds the events that passed since `take_delivered`; `usage` the last report; `error` an error event's
    message; `terminal` whether the terminal event has come, from when on all that arrives is held back."""

    protocol: Protocol
    strips: bool
    usage: Usage | None = None
    error: str | None = None
    terminal: bool = False
    delivered: list[bytes] = field(default_factory=list)
    delivered_bytes: int = 0
    _tail: bytes = b""
    _passing: bool = False
    _held: bytes = b""

    def feed(self, chunk: bytes) -> bytes:
        """What the client may have now."""
        if self.terminal:
            self._held += chunk
            return b""
        data = self._tail + chunk if self._tail else chunk
        end = _last_boundary(data)
        if end == 0:
            return self._unfinished(data)
        block, self._tail = data[:end], data[end:]
        self._passing = False
        if self.protocol.telling.search(block):
            block = self._read(block)
        self.delivered.append(block)
        self.delivered_bytes += len(block)
        return block

    def finish(self) -> None:
        """Reads the last event, where the stream ended without the blank line that would end it."""
        if self._tail and not self._passing and self.protocol.telling.search(self._tail):
            told = self.protocol.read_event(self._tail)
            self.usage, self.error = told.usage or self.usage, told.error or self.error
            self.terminal = told.is_terminal
            if self.strips and told.is_usage_only:
                self._tail = b""

    def release(self) -> bytes:
        """What was held back: the end of the terminal event and what came after it, or an event that never ended."""
        held, self._held, self._tail = self._held or self._tail, b"", b""
        return held

    def take_delivered(self) -> bytes:
        taken = b"".join(self.delivered)
        self.delivered, self.delivered_bytes = [], 0
        return taken

    def _unfinished(self, data: bytes) -> bytes:
        if not self._passing and len(data) <= LARGEST_EVENT:
            self._tail = data
            return b""
        self._passing = True
        self._tail = data[-3:]  # a boundary may be split between this chunk and the next
        return data[:-3]

    def _read(self, block: bytes) -> bytes:
        """Reads the events of a block; returns what of it the client may have now."""
        passing = []
        start = 0
        for boundary in _BOUNDARY.finditer(block):
            event = block[start : boundary.end()]
            if self.protocol.telling.search(event):
                told = self.protocol.read_event(event)
                self.usage = told.usage or self.usage
                self.error = told.error or self.error
                if told.is_terminal:
                    self.terminal = True
                    passing.append(block[start : boundary.start()])
                    self._held = block[boundary.start() :] + self._tail
                    self._tail = b""
                    return b"".join(passing)
                if self.strips and told.is_usage_only:
                    event = b""
            passing.append(event)
            start = boundary.end()
        return b"".join(passing)


@dataclass(slots=True)
class BodyMeter:
    """Passes a body on but for its last byte. `length`: the body's Content-Length, where it is known."""

    length: int | None
    encoding: str | None
    received: int = 0
    _copy: bytearray = field(default_factory=bytearray)
    _held: bytes = b""

    def feed(self, chunk: bytes) -> bytes:
        """What the client may have now."""
        self.received += len(chunk)
        self._copy += chunk
        if len(self._copy) > LARGEST_COPY:
            del self._copy[:-KEPT_END]
        data = self._held + chunk if self._held else chunk
        if self.length is not None and self.received >= self.length:
            self._held = data
            return b""
        self._held = data[-1:]
        return data[:-1]

    @property
    def is_whole(self) -> bool:
        return self.length is None or self.received >= self.length

    def release(self) -> bytes:
        held, self._held = self._held, b""
        return held

    def answer(self) -> bytes:
        """The body for reading, decompressed where it came compressed although plain was asked for."""
        return _decompressed(bytes(self._copy), self.encoding)


def _last_boundary(data: bytes) -> int:
    """The end of the last whole event, 0 if there is none."""
    end = data.rfind(b"\n\n") + 2
    if b"\r" not in data:
        return end if end > 1 else 0
    ends = [boundary.end() for boundary in _BOUNDARY.finditer(data)]
    return ends[-1] if ends else 0


def _decompressed(body: bytes, encoding: str | None) -> bytes:
    if encoding not in ("gzip", "deflate", "x-gzip"):
        return body
    try:
        return zlib.decompressobj(wbits=47).decompress(body, LARGEST_COPY)
    except zlib.error:
        return b""
