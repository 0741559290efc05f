"""A form (`multipart/form-data`, RFC 7578): its fields are read on the way, its files lie with the rest of the body.

What goes upstream is the client's own bytes, with one field's replaced where it must be. A form that two parsers could read
in two ways is refused, as are parts and fields without end.
"""

import re
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass

import msgspec
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from app.errors import InvalidRequest
from app.gateway.forms.sound import SILENCE, Length, length_of
from app.gateway.forms.upload import Upload

MOST_PARTS = 100
LARGEST_FIELD = 262_144
"""Bytes of one field: a prompt of an image has up to 32,000 characters."""
MOST_FIELD_BYTES = 1024 * 1024
"""Of all fields of a form together."""

_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_PARAMETER = re.compile(r";\s*([^=;\s]+)\s*=")


@dataclass(frozen=True, slots=True)
class Part:
    """`start`, `size`: where in the body its content is. `text`: a field's; None: it is a file."""

    name: str
    start: int
    size: int
    text: str | None


@dataclass(frozen=True, slots=True)
class FormBody:
    """What goes upstream: the upload, with the bytes from `start` up to `end` replaced."""

    upload: Upload
    start: int = 0
    end: int = 0
    replaced: bytes = b""

    @property
    def size(self) -> int:
        return self.upload.size - (self.end - self.start) + len(self.replaced)

    async def pieces(self) -> AsyncIterator[bytes]:
        async for piece in self.upload.pieces(0, self.start):
            yield piece
        if self.replaced:
            yield self.replaced
        async for piece in self.upload.pieces(self.end, self.upload.size):
            yield piece


@dataclass(slots=True)
class Form:
    """`sound`: how long that in it is, where it was listened to. What it lies in is the upload's to close."""

    parts: tuple[Part, ...]
    boundary: bytes
    upload: Upload
    sound: Length = SILENCE

    def fields(self) -> dict[str, str]:
        return {part.name: part.text for part in self.parts if part.text is not None}

    def as_json(self) -> bytes:
        """Its fields, as an object of texts."""
        return msgspec.json.encode(self.fields())

    def files(self, names: Collection[str]) -> list[Part]:
        return [part for part in self.parts if part.text is None and part.name in names]

    def refuse_ambiguous(self, fields: Collection[str], files: Collection[str] = ()) -> None:
        """Raises `InvalidRequest` where one of these stands there twice, in other letters, or as what it isn't: which of
        two an upstream takes depends on its parser."""
        found = [part.name.strip().lower() for part in self.parts]
        for part in self.parts:
            plain = part.name.strip().lower()
            is_file = part.text is None
            if (plain in fields or plain in files) and (part.name != plain or found.count(plain) > 1 or is_file != (plain in files)):
                kind = "a file" if plain in files else "a field"
                raise InvalidRequest(f"{plain!r} must stand in the form once, in lower case, and as {kind}.", code="ambiguous_field")

    def with_model(self, model: str | None) -> FormBody:
        """The body, with the model's name in it replaced, or put in front where it has none; None: as the client wrote it."""
        if model is None:
            return FormBody(self.upload)
        named = next((part for part in self.parts if part.name == "model"), None)
        if named is not None:
            return FormBody(self.upload, named.start, named.start + named.size, model.encode())
        head = b'--%b\r\nContent-Disposition: form-data; name="model"\r\n\r\n' % self.boundary
        return FormBody(self.upload, replaced=head + model.encode() + b"\r\n")

    async def listen(self, name: str) -> None:
        """Finds out how long the sound in the file of this name is."""
        for part in self.files((name,)):
            self.sound = await self.upload.examine(part.start, part.size, length_of)


def boundary_of(content_type: str) -> bytes:
    """Raises `InvalidRequest` where it can't be told."""
    kind, options = parse_options_header(content_type)
    if kind.strip() != b"multipart/form-data":
        raise _malformed("it must come as multipart/form-data")
    given = _parameters(content_type)
    boundary = options.get(b"boundary", b"")
    if given.count("boundary") != 1 or not 1 <= len(boundary) <= 70:
        raise _malformed("its Content-Type must name one boundary, of 1 to 70 characters")
    return boundary


def _parameters(header: str) -> list[str]:
    """The names of a header's parameters. One that comes in pieces (`name*0`, RFC 2231) counts as one more of its name: some
    parsers put it together, others don't."""
    return [name.lower().partition("*")[0] for name in _PARAMETER.findall(_QUOTED.sub('""', header))]


class FormParser:
    """Takes a body piece by piece. Raises `InvalidRequest` as soon as it is no form that is taken."""

    def __init__(self, boundary: bytes) -> None:
        self.parts: list[Part] = []
        self._delimiter = b"--" + boundary
        self._fed = 0
        self._chunk = b""
        self._tail = b""
        self._lines = 0
        self._is_ended = False
        self._field_bytes = 0
        self._header: list[bytes] = [b"", b""]
        self._headers: dict[str, str] = {}
        self._name = ""
        self._start = 0
        self._size = 0
        self._text: bytearray | None = None
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": lambda data, start, end: self._take_header(0, data[start:end]),
                    "on_header_value": lambda data, start, end: self._take_header(1, data[start:end]),
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._open,
                    "on_part_data": self._take,
                    "on_part_end": self._end,
                    "on_end": self._end_form,
                },
            )
        except FormParserError as wrong:
            raise _malformed(str(wrong)) from None

    def feed(self, chunk: bytes) -> None:
        if self._fed < len(self._delimiter) and not self._delimiter.startswith((self._tail + chunk)[: len(self._delimiter)]):
            raise _malformed("it must begin with its boundary")
        before, self._chunk = self._tail, chunk
        was_ended = self._is_ended
        try:
            self._parser.write(chunk)
        except FormParserError as wrong:
            raise _malformed(str(wrong)) from None
        self._fed += len(chunk)
        seen = before + chunk
        self._lines += self._count_lines(seen) - self._count_lines(before)
        if self._is_ended:
            rest = chunk if was_ended else seen.partition(b"\r\n" + self._delimiter + b"--")[2]
            if rest.strip(b"\r\n \t"):
                raise _malformed("something follows its end")
        self._tail = seen[-(len(self._delimiter) + 4) :]

    def finish(self) -> tuple[Part, ...]:
        if not self._is_ended:
            raise _malformed("it ends before its closing boundary")
        if not self.parts:
            raise _malformed("it has no parts")
        if self._lines != len(self.parts):
            raise _malformed("a line within a part begins with the boundary")
        return tuple(self.parts)

    def _count_lines(self, data: bytes) -> int:
        """Lines that begin with the boundary, whatever ends the line before: parsers that take a bare line feed see more parts."""
        return data.count(b"\n" + self._delimiter) + data.count(b"\r" + self._delimiter)

    def _begin(self) -> None:
        if len(self.parts) == MOST_PARTS:
            raise InvalidRequest(f"The form has more than {MOST_PARTS} parts. Send fewer.", code="too_many_parts")
        self._headers = {}
        self._start, self._size, self._text = 0, 0, None

    def _take_header(self, of: int, data: bytes) -> None:
        self._header[of] += data

    def _end_header(self) -> None:
        name, value = (part.decode("latin-1") for part in self._header)
        self._header = [b"", b""]
        if name.lower() in self._headers:
            raise _malformed(f"a part has the header {name!r} twice")
        self._headers[name.lower()] = value

    def _open(self) -> None:
        disposition = self._headers.get("content-disposition", "")
        kind, options = parse_options_header(disposition)
        given = _parameters(disposition)
        if kind.strip() != b"form-data" or b"name" not in options or given.count("name") != 1:
            raise _malformed("each part needs a Content-Disposition of `form-data` with one `name`")
        if self._headers.get("content-transfer-encoding", "binary").strip().lower() not in ("binary", "8bit", "7bit"):
            raise _malformed("its parts must come as they are, without a Content-Transfer-Encoding")
        self._name = options[b"name"].decode("utf-8", "replace")
        if "\\" in self._name or '"' in self._name:
            raise _malformed("a part's name holds a quote or a backslash, which parsers read in different ways")
        self._text = None if "filename" in given else bytearray()

    def _take(self, data: bytes, start: int, end: int) -> None:
        """What seemed to be a boundary and wasn't comes from a copy: it is what stood before this chunk."""
        if self._size == 0:
            self._start = self._fed + start if data is self._chunk else self._fed - (end - start)
        self._size += end - start
        if self._text is None:
            return
        self._text += data[start:end]
        self._field_bytes += end - start
        if self._size > LARGEST_FIELD or self._field_bytes > MOST_FIELD_BYTES:
            raise InvalidRequest(f"The form's field {self._name[:50]!r} is too large. Send it as a file, or less.", code="field_too_large")

    def _end(self) -> None:
        try:
            text = None if self._text is None else self._text.decode()
        except UnicodeDecodeError:
            raise InvalidRequest(f"The form's field {self._name[:50]!r} is not valid UTF-8. Correct it.", code="invalid_form") from None
        self.parts.append(Part(self._name, self._start, self._size, text))

    def _end_form(self) -> None:
        self._is_ended = True


def _malformed(why: str) -> InvalidRequest:
    return InvalidRequest(f"The request body is not a form that can be read: {why}.", code="invalid_form")
