"""Where the embedded PostgreSQL listens, and whether it answers there."""

import socket
from pathlib import Path
from typing import Literal

from app.errors import StartupError
from app.runtime.postgres_cluster import NAME

PORT = "5432"
"""Only part of the socket's name; said in the URL too, where PGPORT would else change it."""

_NOT_NOW = ("57P01", "57P02", "57P03")
"""SQLSTATEs of a server that stops, starts, or recovers from the end of one of its processes."""
_TOO_MANY = "53300"


def socket_file(sockets: Path) -> str:
    return f"{sockets}/.s.PGSQL.{PORT}"


def url(sockets: Path) -> str:
    """For SQLAlchemy with asyncpg."""
    return f"postgresql+asyncpg://{NAME}@/{NAME}?host={sockets}&port={PORT}"


def ask(path: str) -> Literal["ready", "recovering", "silent"]:
    """Opens a session as a client would: https://www.postgresql.org/docs/18/protocol-message-formats.html."""
    start = b"\0\x03\0\0" + f"user\0{NAME}\0database\0{NAME}\0\0".encode()
    with socket.socket(socket.AF_UNIX) as connection, connection.makefile("rb") as replies:
        connection.settimeout(1.0)
        try:
            connection.connect(path)
            connection.sendall((len(start) + 4).to_bytes(4) + start)
            while kind := replies.read(1):
                content = replies.read(int.from_bytes(replies.read(4)) - 4)
                if kind == b"Z":
                    connection.sendall(b"X\0\0\0\4")
                    return "ready"
                if kind == b"E":
                    return _refusal(content)
        except OSError:
            pass
    return "silent"


def _refusal(content: bytes) -> Literal["ready", "recovering"]:
    fields = {field[:1]: field[1:].decode(errors="replace") for field in content.split(b"\0") if field}
    state = fields.get(b"C")
    if state in _NOT_NOW:
        return "recovering"
    if state == _TOO_MANY:  # of others, whom it did let in
        return "ready"
    raise StartupError(f"the embedded PostgreSQL refuses connections: {fields.get(b'M')}")
