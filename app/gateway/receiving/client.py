"""The client's end of a call: the thin side of ASGI.

A client that reads nothing for too long is cut off, which is noticed as any departure is: nobody holds an upstream's
connection and money for it.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from uuid import UUID

from starlette.types import Receive, Scope, Send

from app.errors import BodyTooLarge, InvalidRequest, ProxyError
from app.gateway.forms.upload import Upload
from app.gateway.protocols import Protocol
from app.gateway.receiving.unpack import unpack

ID_HEADERS = {"x-api-key": (b"x-request-id", b"request-id")}
"""Where clients look for a call's id, by the way in which they send their keys: Anthropic's read `request-id`, all others
`x-request-id`."""
SERVER_SEND = "aigcspace.server_send"
"""Where whoever wraps `send` puts the server's own into the scope."""


class ClientGone(Exception):
    """The client left before its request was read, or before its answer began."""


class Client:
    """One request and its one answer. `started`: the status is out, so that an error can only be told inside the body.
    `upload`: where a request lies that isn't held in memory."""

    __slots__ = (
        "_longest_send", "_look_at_send", "_own_headers", "_receive", "_send", "_sending_since", "address", "headers", "named",
        "request_id", "scope", "started", "upload",
    )  # fmt: skip

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, protocol: Protocol, request_id: UUID) -> None:
        self.scope = scope
        self.headers: list[tuple[bytes, bytes]] = scope["headers"]
        self.named = dict(self.headers)
        self.address: str | None = scope["client"][0] if scope.get("client") else None
        self.started = False
        self.upload: Upload | None = None
        self._receive = receive
        self._send = send
        self.request_id = request_id
        self._own_headers = [(name, str(request_id).encode()) for name in ID_HEADERS.get(protocol.auth, (b"x-request-id",))]
        self._sending_since: float | None = None
        self._longest_send = 0.0
        self._look_at_send: asyncio.TimerHandle | None = None

    async def read_body(self, *, largest: int) -> bytes:
        """Unpacked, where it came compressed. Raises `BodyTooLarge` as soon as the limit is passed, `InvalidRequest`,
        `ClientGone`."""
        headers = self.named
        too_large = _too_large(largest)
        if _declared(headers) > largest:
            raise too_large
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > largest:
                raise too_large
            chunks.append(chunk)
            if not message.get("more_body", False):
                break
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        encoding = headers.get(b"content-encoding", b"identity").decode("latin-1").strip().lower()
        return body if encoding in ("identity", "") else await unpack(body, encoding, largest=largest)

    async def body_pieces(self, *, largest: int, longest_wait: float) -> AsyncIterator[bytes]:
        """As they come. Raises what `read_body` does, and `InvalidRequest` where none comes for `longest_wait` seconds."""
        if _declared(dict(self.headers)) > largest:
            raise _too_large(largest)
        size, more = 0, True
        while more:
            try:
                async with asyncio.timeout(longest_wait):
                    message = await self._receive()
            except TimeoutError:
                raise InvalidRequest("The request body stopped coming. Send it again.", code="body_stalled") from None
            if message["type"] == "http.disconnect":
                raise ClientGone
            piece: bytes = message.get("body", b"")
            size += len(piece)
            if size > largest:
                raise _too_large(largest)
            more = message.get("more_body", False)
            yield piece

    async def when_gone(self, then: Callable[[], None]) -> None:
        """Calls `then` when the client has left. To be used once the request has been read: nothing else comes after it."""
        await self._receive()
        then()

    def is_gone(self) -> bool:
        """Whether the client has left, without waiting; to be asked as `when_gone` is, and before the answer's last byte.

        The first step of `receive` tells: it ends if there is something to receive, and waits otherwise."""
        receiving = self._receive().__await__()
        try:
            next(receiving)
        except StopIteration:
            return True
        receiving.close()
        return False

    def bound_sends(self, longest: float) -> None:
        """From now on, until `end`, the client is cut off where it takes nothing for `longest` seconds.

        One timer a call, which looks whether the same send goes on as before: nothing is to be done at each send."""
        self._longest_send = longest
        self._look_at_send = asyncio.get_running_loop().call_later(longest, self._look)

    def end(self) -> None:
        if self._look_at_send is not None:
            self._look_at_send.cancel()

    def _look(self) -> None:
        waited = 0.0 if self._sending_since is None else time.monotonic() - self._sending_since
        if waited >= self._longest_send:
            self._cut_off()
        else:
            self._look_at_send = asyncio.get_running_loop().call_later(self._longest_send - waited, self._look)

    def _cut_off(self) -> None:
        """ASGI has no word for it. uvicorn's `send` belongs to an object that knows the connection."""
        server_send = self.scope.get(SERVER_SEND, self._send)
        transport = getattr(getattr(server_send, "__self__", None), "transport", None)
        if transport is not None:
            transport.abort()

    def interject(self, data: bytes) -> None:
        """Sends within a body, at once or not at all: a client that still has to take what was sent before gets nothing.

        The first step of `send` writes, unless it waits for the client."""
        if self._sending_since is not None:
            return
        sending = self._send({"type": "http.response.body", "body": data, "more_body": True}).__await__()
        try:
            next(sending)
        except StopIteration:
            return
        sending.close()

    async def start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self.started = True
        self._sending_since = time.monotonic()
        await self._send({"type": "http.response.start", "status": status, "headers": [*headers, *self._own_headers]})
        self._sending_since = None

    async def send(self, data: bytes, *, more: bool = True) -> None:
        self._sending_since = time.monotonic()
        await self._send({"type": "http.response.body", "body": data, "more_body": more})
        self._sending_since = None

    async def send_error(self, protocol: Protocol, error: ProxyError) -> None:
        body = protocol.error_body(error)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        headers += [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]
        await self.start(error.status, headers)
        await self.send(body, more=False)


def _declared(headers: dict[bytes, bytes]) -> int:
    declared = headers.get(b"content-length", b"0")
    return int(declared) if declared.isdigit() else 0


def _too_large(largest: int) -> BodyTooLarge:
    return BodyTooLarge(f"The request body is larger than {largest} bytes, the most that is taken here. Send less.")
