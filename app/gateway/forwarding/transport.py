"""The way to upstreams: one small interface, so that nothing else knows which HTTP client is behind it.

`http1` is: with aiohttp a call took a quarter more of the proxy's CPU. All calls off the hot path use httpx.
Bodies come as they are on the wire, never decompressed; redirects are not followed, and no proxy is asked. What a name has
come to is checked when a connection is made, against `metadata_addresses`.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Self

from app.errors import ProxyError, UpstreamFailed, UpstreamTimeout
from app.gateway.forms.form import FormBody
from app.gateway.forwarding.http1 import AddressRefused, Client, Exchange, HttpFault, NotHttp, Stalled, Streamed, TooLong, Unreachable
from app.gateway.masking import without_secret
from app.settings import Settings

LARGEST_FETCHED = 32 * 1024 * 1024
"""Bytes of a body that is read whole."""
LARGEST_ERROR = 65_536
"""Bytes of an error that are kept together, so that a secret in it is found."""


class UpstreamBroken(Exception):
    """The answer ended before its end: the upstream cut the connection or stalled. The message is for the row."""


def _broken(fault: HttpFault) -> UpstreamBroken:
    if isinstance(fault, Stalled):
        return UpstreamBroken("the upstream stalled: it sent nothing for too long")
    if isinstance(fault, TooLong):
        return UpstreamBroken("the upstream took too long to end its answer")
    if isinstance(fault, NotHttp):
        return UpstreamBroken("the upstream went on with what is no HTTP")
    return UpstreamBroken(f"the upstream cut the connection ({fault})")


class UpstreamAnswer:
    """An answer whose headers have come. `close` must be called once, whatever happens. `is_broken`: it ended before its end."""

    __slots__ = ("_exchange", "_first", "encoding", "is_broken", "is_stream", "length", "raw_headers", "status")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.status = exchange.status
        self.raw_headers = exchange.headers
        named = {name.lower(): value for name, value in reversed(exchange.headers)}
        content_type = named.get(b"content-type", b"").partition(b";")[0].strip().lower()
        encoding, length = named.get(b"content-encoding"), named.get(b"content-length", b"")
        self.encoding = None if encoding is None else encoding.decode("latin-1")
        self.is_stream = content_type == b"text/event-stream" and self.status < 400 and self.encoding in (None, "identity")
        self.length = int(length) if length.isdigit() else None
        self.is_broken = False
        self._first = b""

    @property
    def received(self) -> int:
        """Bytes of the body that have come, passed on or not."""
        return self._exchange.received

    async def begins(self, *, within: float) -> bool:
        """Waits up to `within` seconds for the body's first bytes, which `chunks` gives first; false where the body has none.
        Raises `UpstreamBroken`."""
        limit = asyncio.timeout(within)
        try:
            async with limit:
                self._first = await self._read()
        except TimeoutError:
            if not limit.expired():
                raise
            return True
        return bool(self._first)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body, as it comes. Raises `UpstreamBroken`."""
        if self._first:
            first, self._first = self._first, b""
            yield first
        while chunk := await self._read():
            yield chunk

    async def error_chunks(self, secret: str | None) -> AsyncIterator[bytes]:
        """The body of an error, in one piece where it is of the usual size, without our secret. Raises `UpstreamBroken`."""
        kept = b""
        async for chunk in self.chunks():
            kept += chunk
            if len(kept) > LARGEST_ERROR:
                yield without_secret(kept, secret)
                kept = b""
        if kept:
            yield without_secret(kept, secret)

    def close(self) -> None:
        """Closes the connection, where the answer has not come to its end: else that serves the next call already."""
        self._exchange.close()

    async def _read(self) -> bytes:
        try:
            return await self._exchange.read()
        except HttpFault as fault:
            self.is_broken = True
            raise _broken(fault) from None


class Transport:
    """One pool of connections for a process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: Client | None = None

    async def __aenter__(self) -> Self:
        settings = self._settings
        self._client = Client(
            connect_timeout=settings.upstream_connect_timeout,
            idle_timeout=settings.upstream_idle_timeout,
            total_timeout=settings.upstream_total_timeout,
            allow_link_local=settings.allow_link_local_upstreams,
        )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._client is not None:
            self._client.close()

    async def post(self, url: str, *, headers: Mapping[str, str], body: bytes | FormBody) -> UpstreamAnswer:
        """Raises `UpstreamFailed` or `UpstreamTimeout` where no answer begins."""
        return await self.send("POST", url, headers=headers, body=body)

    async def fetch(self, url: str, *, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Status and body of a GET; of a body that is too large, nothing. Raises what `post` does, and `UpstreamBroken`."""
        answer = await self.send("GET", url, headers=headers)
        body = bytearray()
        try:
            async for chunk in answer.chunks():
                body += chunk
                if len(body) > LARGEST_FETCHED:
                    return answer.status, b""
        finally:
            answer.close()
        return answer.status, bytes(body)

    async def send(self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | FormBody | None = None) -> UpstreamAnswer:
        """As `post`, by any method."""
        assert self._client is not None
        content = Streamed(body.pieces, body.size) if isinstance(body, FormBody) else body
        try:
            return UpstreamAnswer(await self._client.send(method, url, headers=headers, body=content))
        except (Stalled, TooLong):
            raise UpstreamTimeout("The upstream did not answer in time. Try again, or ask for a shorter answer.") from None
        except (HttpFault, OSError, ValueError) as failed:
            raise _unreachable(failed) from failed


def _unreachable(failed: Exception) -> ProxyError:
    if isinstance(failed, AddressRefused):
        return UpstreamFailed(str(failed), code="upstream_address_refused")
    if isinstance(failed, Unreachable):
        return UpstreamFailed("The upstream can't be reached at the moment. Try again shortly.", code="upstream_unreachable")
    return UpstreamFailed("The upstream broke off before it answered. Try again.", code="upstream_broken")
