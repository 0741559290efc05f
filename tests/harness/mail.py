"""A mail server on loopback that takes everything, and keeps it."""

import asyncio
import email
import email.policy
from email.message import EmailMessage
from types import TracebackType
from typing import Self

from tests.harness.background import Background


class MailServer:
    """`messages`: what was delivered. `refuses`: with which code the next recipients are."""

    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []
        self.refuses: int | None = None
        self._loop = Background()

    def __enter__(self) -> Self:
        self._server = self._loop.run(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.url = f"smtp://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._server.close()
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 here\r\n")
        while line := await reader.readline():
            word = line.split()[0].upper() if line.split() else b""
            if word == b"DATA":
                writer.write(b"354 go on\r\n")
                text = await reader.readuntil(b"\r\n.\r\n")
                message = email.message_from_bytes(text[:-5], policy=email.policy.default)
                assert isinstance(message, EmailMessage)
                self.messages.append(message)
            answer = f"{self.refuses} no\r\n".encode() if word == b"RCPT" and self.refuses else b"250 well\r\n"
            writer.write(b"221 bye\r\n" if word == b"QUIT" else answer)
            if word == b"QUIT":
                break
        writer.close()
