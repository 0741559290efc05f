"""A client that sends what it is given, byte for byte, and reads what comes."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

PATIENCE = 15.0
"""Seconds after which what doesn't come is a hang."""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


class Wire:
    """One connection."""

    def __init__(self, port: int, *, patience: float = PATIENCE) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.socket.settimeout(patience)
        self._read = b""
        self._is_head = False  # whether answers come without their bodies

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.socket.close()

    def send(self, *pieces: bytes) -> None:
        """A server that has hung up already is no fault."""
        self._is_head = b"".join(pieces).startswith(b"HEAD ")
        try:
            for piece in pieces:
                self.socket.sendall(piece)
        except ConnectionError:
            pass

    def answers(self) -> list[Answer]:
        """All that come until the server hangs up."""
        while self._more():
            pass
        found = []
        while self._read:
            found.append(self._next())
        return found

    def answer(self) -> Answer | None:
        """The next one; None where the server has hung up. Raises `TimeoutError`."""
        while not self._is_whole():
            if not self._more():
                return self._next() if self._read else None
        return self._next()

    def hangs_up(self) -> bool:
        """Whether the server does, having said nothing more."""
        return not self._more() and not self._read

    def _more(self) -> bool:
        try:
            received = self.socket.recv(65536)
        except ConnectionError:
            return False
        self._read += received
        return bool(received)

    def _is_whole(self) -> bool:
        head, end, rest = self._read.partition(b"\r\n\r\n")
        if end and head.startswith(b"HTTP/1.1 100"):
            self._read = rest
            return self._is_whole()
        if not end:
            return False
        if self._is_head or head.startswith((b"HTTP/1.1 204", b"HTTP/1.1 304")):
            return True
        headers = _headers(head)
        if "content-length" in headers:
            return len(rest) >= int(headers["content-length"])
        return "transfer-encoding" not in headers or rest.endswith(b"0\r\n\r\n")

    def _next(self) -> Answer:
        head, _, rest = self._read.partition(b"\r\n\r\n")
        headers = _headers(head)
        size = 0 if self._is_head else int(headers.get("content-length", len(rest)))
        self._read = rest[size:]
        return Answer(int(head.split()[1]), headers, rest[:size])


def _headers(head: bytes) -> dict[str, str]:
    lines = head.decode("latin-1").split("\r\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def head(*lines: str, key: str, path: str = "/v1/chat/completions", method: str = "POST") -> bytes:
    """Of a call, with `lines` added to it."""
    usual = (f"{method} {path} HTTP/1.1", "Host: proxy", f"Authorization: Bearer {key}", "Content-Type: application/json")
    return "\r\n".join([*usual, *lines, "", ""]).encode("latin-1")


def chunked(pieces: Sequence[bytes]) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece) + b"0\r\n\r\n"
