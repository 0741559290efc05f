"""PostgreSQL's frontend/backend protocol, version 3, as far as it takes to know of which statement an Execute is, and where
an answer ends. https://www.postgresql.org/docs/current/protocol-message-formats.html

Messages are bytes as they were sent, with names for what they say; an empty one stands for the end of the connection.
"""

import asyncio
from typing import TypeVar

_CANCEL = 80877102
_ENCRYPTION = (80877103, 80877104)
"""SSLRequest and GSSENCRequest."""
NO_ENCRYPTION = b"N"
"""The answer to either."""


class Start(bytes):
    """What a client sends first: it has no kind."""

    @property
    def _code(self) -> int:
        """The protocol's version, or what stands in its place."""
        return int.from_bytes(self[4:8])

    @property
    def asks_for_encryption(self) -> bool:
        return self._code in _ENCRYPTION

    @property
    def is_cancel(self) -> bool:
        """The whole of its connection: nothing follows."""
        return self._code == _CANCEL


class Message(bytes):
    @property
    def kind(self) -> bytes:
        return self[:1]

    @property
    def content(self) -> bytes:
        return self[5:]


class Request(Message):
    """From the client."""

    @property
    def is_answered(self) -> bool:
        """Neither part of the authentication nor Terminate."""
        return self.kind not in (b"p", b"X")

    @property
    def ends_turn(self) -> bool:
        """Query, Sync or FunctionCall: the server answers all up to here, and then is ready."""
        return self.kind in (b"Q", b"S", b"F")


class Answer(Message):
    """From the server."""

    @property
    def is_error(self) -> bool:
        return self.kind == b"E"

    @property
    def is_notice(self) -> bool:
        """NotificationResponse."""
        return self.kind == b"A"

    @property
    def is_ready(self) -> bool:
        """The last of a turn."""
        return self.kind == b"Z"

    @property
    def is_in_transaction(self) -> bool:
        return self.is_ready and self.content == b"T"

    @property
    def is_in_failed_transaction(self) -> bool:
        return self.is_ready and self.content == b"E"


M = TypeVar("M", bound=Message)


async def read_start(reader: asyncio.StreamReader) -> Start:
    """Raises `IncompleteReadError` at the end."""
    length = await reader.readexactly(4)
    return Start(length + await reader.readexactly(int.from_bytes(length) - 4))


async def read(reader: asyncio.StreamReader, message: type[M]) -> M:
    """A whole message; an empty one at the end."""
    try:
        head = await reader.readexactly(5)
        return message(head + await reader.readexactly(int.from_bytes(head[1:]) - 4))
    except (asyncio.IncompleteReadError, ConnectionError):
        return message()


class Statements:
    """What one client has prepared and bound so far, by the names that it gave."""

    def __init__(self) -> None:
        self._prepared: dict[str, str] = {}
        self._bound: dict[str, str] = {}

    def executed_by(self, request: Request) -> str | None:
        """The text of what it executes; a Parse or a Bind is remembered."""
        match request.kind:
            case b"P":
                name, sql = _texts(request, 2)
                self._prepared[name] = sql
            case b"B":
                portal, name = _texts(request, 2)
                self._bound[portal] = self._prepared.get(name, "")
            case b"E":
                return self._bound.get(_texts(request, 1)[0], "")
            case b"Q":
                return _texts(request, 1)[0]
        return None


def _texts(request: Request, number: int) -> list[str]:
    """The zero-terminated texts with which it starts."""
    return [text.decode(errors="replace") for text in request.content.split(b"\0", number)[:number]]
