"""A tap on the bytes that pass from the upstream to the client.

It keeps what is needed to bill the call, in constant memory, and says what must wait: the end of a stream's terminal
event and the last byte of any other body stay here until the call's row is committed.
"""

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from app.billing.usage import Usage
from app.gateway.metering.strict_json import is_lenient, strict_events
from app.gateway.metering.strip import NullUsage
from app.gateway.metering.usage_reports import UsageReports
from app.gateway.protocols import Kept, Protocol, StreamEvent

LARGEST_EVENT = 262_144
"""Bytes of an unfinished event that wait for its end; a larger one passes as it comes, unread."""
LARGEST_COPY = 8 * 1024 * 1024
"""Bytes of a unary answer that are kept whole; a larger one is kept without its data in base64, else its two ends."""
LARGEST_TEXT = 4096
"""Bytes of base64 from which on a text is left out of what is kept."""
KEPT_END = 65_536
KEPT_HEAD = 4096
"""Bytes at the start of an event that is too large to be kept: what stands before an image's data."""
FOLD_AT = 65_536
"""Bytes of events that are kept as they came, until their texts are taken out of them. A short stream is never parsed."""
MOST_TEXT = 100_000
"""Characters of texts that are kept until they are counted."""

_NOTHING = StreamEvent()
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=-_"
_BOUNDARY = re.compile(rb"\r\n\r\n|\n\n|\r\r|\n\r\n")


@dataclass(slots=True)
class StreamMeter:
    """Passes whole events on, at once. `strips`: what is there only because we asked for usage is taken out.

    `reports` keeps the usage that was told; `error` an error event's message; `kept` what the provider keeps of the answer;
    `terminal` whether the terminal event has come, from when on all that arrives is held back; `unread_bytes` what passed as
    parts of events too large to be read."""

    protocol: Protocol
    strips: bool
    reports: UsageReports = field(default_factory=UsageReports)
    error: str | None = None
    kept: Kept | None = None
    terminal: bool = False
    unread_bytes: int = 0
    _delivered: list[bytes] = field(default_factory=list)
    _delivered_bytes: int = 0
    _texts: list[str] = field(default_factory=list)
    _text_size: int = 0
    _tail: bytes = b""
    _large_head: bytes = b""
    _large_end: bytes = b""
    _held: bytes = b""
    _saw_closing: bool = False
    _null_usage: NullUsage = field(default_factory=NullUsage)

    def feed(self, chunk: bytes) -> bytes:
        """What the client may have now."""
        if self.terminal:
            self._held += chunk
            return b""
        if self._held:  # what seemed to be the end was not
            passing, self._held = self._held, b""
            return passing + self.feed(chunk)
        data = self._tail + chunk if self._tail else chunk
        end = _last_boundary(data)
        if end == 0:
            return self._unfinished(data)
        block, self._tail = data[:end], data[end:]
        if self._large_end or self.protocol.tells(block):
            block = self._read(block)
        else:
            self._keep(block)
        if self._delivered_bytes > FOLD_AT:
            self._fold()
        return self._null_usage.stripped(block) if self.strips else block

    def finish(self) -> None:
        """Reads the last event, where the stream ended without the blank line that would end it."""
        if self._saw_closing:
            self.terminal, self.reports.is_partial = True, False
        if self._large_end:
            told = self._tell_large(self._tail)
            self.terminal = self.terminal or told.is_terminal or told.is_closing
        elif self._tail and self.protocol.tells(self._tail):
            told = self._tell(self._tail)
            self.terminal = self.terminal or told.is_terminal or told.is_closing
            if self.strips and told.is_usage_only:
                self._tail = b""
            return
        self._keep(self._tail)
        if self.strips:
            self._tail = self._null_usage.stripped(self._tail)

    def release(self) -> bytes:
        """What was held back: the end of the terminal event and what came after it, or an event that never ended."""
        held, self._held, self._tail = self._held or self._tail, b"", b""
        return held

    @property
    def usage(self) -> Usage | None:
        return self.reports.usage

    @property
    def is_between_events(self) -> bool:
        """Whether what has passed ends with a whole event, and is not about to end the stream."""
        return not (self._held or self._large_end)

    @property
    def texts_are_many(self) -> bool:
        return self._text_size > MOST_TEXT

    def take_texts(self) -> list[str]:
        """The texts that were delivered since they were last taken."""
        self._fold()
        texts, self._texts, self._text_size = self._texts, [], 0
        return texts

    def _keep(self, events: bytes) -> None:
        self._delivered.append(events)
        self._delivered_bytes += len(events)

    def _fold(self) -> None:
        events = b"".join(self._delivered)
        texts = self.protocol.event_texts(strict_events(events) if is_lenient(events) else events)
        self._texts += texts
        self._text_size += sum(map(len, texts)) + len(texts)
        self._delivered, self._delivered_bytes = [], 0

    def _unfinished(self, data: bytes) -> bytes:
        if not self._large_end and len(data) <= LARGEST_EVENT:
            self._tail = data
            return b""
        self._tail = data[-3:]  # a boundary may be split between this chunk and the next
        self.unread_bytes += len(data) - 3
        self._large_head = self._large_head or data[:KEPT_HEAD]
        self._large_end = (self._large_end + data[:-3])[-KEPT_END:]
        return data[:-3]

    def _tell_large(self, rest: bytes) -> StreamEvent:
        """Of an event that was too large to be kept, the two ends make an event that can be read where all between them is
        one text, such as an image's; else the end is looked at for usage."""
        end = self._large_end + rest
        event = self._large_head + end
        self._large_head = self._large_end = b""
        told = self.protocol.read_event(event)
        if told == _NOTHING:
            told = StreamEvent(usage=self.protocol.usage_of(end))
        self._take(told, end)
        return told

    def _take(self, told: StreamEvent, event: bytes) -> None:
        self.reports.take(told.usage, event, is_partial=told.is_partial, is_addition=told.is_addition, is_one_more=told.is_one_more)
        self.error = told.error or self.error
        self._saw_closing = self._saw_closing or told.is_closing

    def _tell(self, event: bytes) -> StreamEvent:
        """Reads an event that may tell something, and keeps it for its texts."""
        told = self.protocol.read_event(event)
        if told == _NOTHING:
            event = strict_events(event)
            told = self.protocol.read_event(event)
        self._take(told, event)
        self.kept = told.kept.after(self.kept) if told.kept else self.kept
        self._keep(event)
        return told

    def _read(self, block: bytes) -> bytes:
        """Reads the events of a block; returns what of it the client may have now."""
        passing = []
        start = 0
        for boundary, end in _boundaries(block):
            event = block[start:end]
            is_large = bool(self._large_end)
            if is_large or self.protocol.tells(event):
                told = self._tell_large(block[:boundary]) if is_large else self._tell(event)
                if told.is_terminal:
                    self.terminal = True
                    passing.append(block[start:boundary])
                    self._held = block[boundary:] + self._tail
                    self._tail = b""
                    return b"".join(passing)
                if told.is_closing and end == len(block) and not self._tail:
                    passing.append(block[start:boundary])
                    self._held = block[boundary:]
                    return b"".join(passing)
                if self.strips and told.is_usage_only and not is_large:
                    event = b""
            else:
                self._keep(event)
            passing.append(event)
            start = end
        passing.append(block[start:])  # an odd line feed after the last event
        return b"".join(passing)


@dataclass(slots=True)
class BodyMeter:
    """Passes a body on but for its last byte. `length`: the body's Content-Length, where it is known. `is_array`: it may be a
    stream in the form of a JSON array, of which nothing but a bracket can be the end."""

    length: int | None
    encoding: str | None
    is_array: bool = False
    received: int = 0
    _copy: bytearray = field(default_factory=bytearray)
    _head: bytes = b""
    _held: bytes = b""

    def feed(self, chunk: bytes) -> bytes:
        """What the client may have now."""
        self.received += len(chunk)
        self._copy += chunk
        if len(self._copy) > LARGEST_COPY:
            self._make_smaller()
        data = self._held + chunk if self._held else chunk
        if self.length is not None and self.received >= self.length:
            self._held = data
            return b""
        end = self._end(data)
        self._held = data[end:]
        return data[:end]

    def _end(self, data: bytes) -> int:
        """Where what may be the end of the body begins."""
        if not self.is_array or (self._head or self._copy)[:1] != b"[":
            return len(data) - 1
        whole = data.rstrip()
        return len(whole) - 1 if whole.endswith(b"]") else len(data)

    def _make_smaller(self) -> None:
        """Leaves out what is base64, such as images, after which JSON is JSON as before; where that doesn't do, the middle."""
        if self._encoding_name == "identity":
            self._copy[:] = b'"'.join(b"" if _is_data(text) else text for text in bytes(self._copy).split(b'"'))
        if len(self._copy) > LARGEST_COPY // 2:
            self._head = self._head or bytes(self._copy[:KEPT_END])
            del self._copy[:-KEPT_END]

    def release(self) -> bytes:
        held, self._held = self._held, b""
        return held

    def answer(self) -> bytes:
        """The body for reading, of a very large one the two ends. Decompressed where it came compressed although plain was
        asked for; empty where that can't be done."""
        encoding = self._encoding_name
        whole = self._head + bytes(self._copy)
        if encoding in ("gzip", "x-gzip", "deflate"):
            return _decompressed(whole)
        return whole if encoding == "identity" else b""

    @property
    def _encoding_name(self) -> str:
        return (self.encoding or "identity").strip().lower()


def _is_data(text: bytes) -> bool:
    """Nothing outside of JSON's texts is so long without a comma, a colon or a space."""
    return len(text) > LARGEST_TEXT and not text.replace(b"\\/", b"/").translate(None, _BASE64)


def _last_boundary(data: bytes) -> int:
    """The end of the last whole event, 0 if there is none."""
    end = data.rfind(b"\n\n") + 2
    if data.find(b"\r") < 0:
        return end if end > 1 else 0
    ends = [boundary.end() for boundary in _BOUNDARY.finditer(data)]
    return ends[-1] if ends else 0


def _boundaries(block: bytes) -> Iterator[tuple[int, int]]:
    """Where the blank line after each whole event starts and ends."""
    if b"\r" in block:
        yield from (boundary.span() for boundary in _BOUNDARY.finditer(block))
        return
    start = block.find(b"\n\n")
    while start >= 0:
        yield start, start + 2
        start = block.find(b"\n\n", start + 2)


def _decompressed(body: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=47).decompress(body, LARGEST_COPY)
    except zlib.error:
        return b""
