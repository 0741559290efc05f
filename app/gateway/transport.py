"""The way to upstreams: one small interface, so that nothing else knows which HTTP client is behind it.

aiohttp is used bare: the httpx transport over it costs a third more CPU a call, and plain httpx ten times as much. All
calls off the hot path use httpx. Bodies come as they are on the wire, never decompressed; redirects are not followed. What
a name has come to is checked when a connection is made, against `metadata_addresses`.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError

from app.catalog.metadata_addresses import REFUSED, is_refused
from app.errors import ProxyError, UpstreamFailed, UpstreamTimeout
from app.gateway.form import FormBody
from app.settings import Settings

_OURS = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")

LARGEST_FETCHED = 32 * 1024 * 1024
"""Bytes of a body that is read whole."""
LARGEST_ERROR = 65_536
"""Bytes of an error that are kept together, so that a secret in it is found."""


SHORTEST_SECRET = 12
"""Characters. What is shorter, such as the `none` or `EMPTY` that local servers are given, guards nothing and may stand in any text."""


def without_secret(text: bytes, secret: str | None) -> bytes:
    """Some upstreams repeat, in an error, the credentials that they refuse. The length stays."""
    if secret is None or len(secret) < SHORTEST_SECRET:
        return text
    return text.replace(secret.encode(), b"*" * len(secret.encode()))


def masked(text: str, secret: str | None) -> str:
    return text if secret is None or len(secret) < SHORTEST_SECRET else text.replace(secret, "*" * len(secret))


class UpstreamBroken(Exception):
    """The answer ended before its end: the upstream cut the connection or stalled. The message is for the row."""


_BREAKS = (TimeoutError, HttpProcessingError, aiohttp.ClientError, ConnectionError)


def _broken(failed: Exception) -> UpstreamBroken:
    if isinstance(failed, aiohttp.ServerTimeoutError):
        return UpstreamBroken("the upstream stalled: it sent nothing for too long")
    if isinstance(failed, TimeoutError):
        return UpstreamBroken("the upstream took too long to end its answer")
    if isinstance(failed, HttpProcessingError):
        return UpstreamBroken("the upstream went on with what is no HTTP")
    return UpstreamBroken(f"the upstream cut the connection ({type(failed).__name__})")


class UpstreamAnswer:
    """An answer whose headers have come. `close` must be called once, whatever happens. `is_broken`: it ended before its end."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.raw_headers: tuple[tuple[bytes, bytes], ...] = response.raw_headers
        content_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        self.encoding = response.headers.get("Content-Encoding")
        self.is_stream = content_type == "text/event-stream" and response.status < 400 and self.encoding in (None, "identity")
        self.length = response.content_length
        self.is_broken = False
        self._first = b""

    @property
    def received(self) -> int:
        """Bytes of the body that have come, passed on or not."""
        return self._response.content.total_bytes

    async def begins(self, *, within: float) -> bool:
        """Waits up to `within` seconds for the body's first bytes, which `chunks` gives first; false where the body has none.
        Raises `UpstreamBroken`."""
        limit = asyncio.timeout(within)
        try:
            async with limit:
                try:
                    self._first = await self._response.content.readany()
                except _BREAKS as failed:
                    self.is_broken = True
                    raise _broken(failed) from None
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
        try:
            while chunk := await self._response.content.readany():
                yield chunk
        except _BREAKS as failed:
            self.is_broken = True
            raise _broken(failed) from None

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
        """Frees the connection: for the next call if the answer was read to its end, else by closing it."""
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()


class _Connection(ResponseHandler):
    """aiohttp's compiled parser forgets whom it feeds when it meets what is no HTTP, and drops the timeout: without this,
    whoever reads that body waits for `UPSTREAM_TOTAL_TIMEOUT` (seen with 3.14)."""

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        super().set_exception(exc, *cause)
        if isinstance(exc, HttpProcessingError) and self._payload is not None and not self._payload.is_eof():
            self._payload.set_exception(exc)


class _RefusedAddressError(OSError):
    """Where an upstream's name leads."""

    def __init__(self) -> None:
        super().__init__(f"The upstream's address {REFUSED}.")


def _allowed_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, _, place = address
    if is_refused(str(place[0])):
        raise _RefusedAddressError
    return socket.socket(family, kind, protocol)


class _Connector(aiohttp.TCPConnector):
    def __init__(self, *, allow_link_local: bool) -> None:
        super().__init__(limit=0, keepalive_timeout=30, ttl_dns_cache=30, socket_factory=None if allow_link_local else _allowed_socket)
        make: Callable[..., ResponseHandler] = _Connection
        self._factory = partial(make, loop=self._loop)


class _FormPayload(aiohttp.Payload):
    """A form on its way upstream, read piece by piece from where it lies. It may be sent again."""

    def __init__(self, body: FormBody) -> None:
        super().__init__(body)
        self._size = body.size

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        raise TypeError("a form is never held whole")

    async def write(self, writer: AbstractStreamWriter) -> None:
        async for piece in self._value.pieces():
            await writer.write(piece)


class Transport:
    """One pool of connections for a process."""

    def __init__(self, settings: Settings) -> None:
        self._timeout = aiohttp.ClientTimeout(
            total=settings.upstream_total_timeout,
            sock_connect=settings.upstream_connect_timeout,
            sock_read=settings.upstream_idle_timeout,
        )
        self._allow_link_local = settings.allow_link_local_upstreams
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=_Connector(allow_link_local=self._allow_link_local),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            timeout=self._timeout,
            skip_auto_headers=_OURS,
        )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._session is not None:
            await self._session.close()

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
        assert self._session is not None
        data = _FormPayload(body) if isinstance(body, FormBody) else body
        try:
            return UpstreamAnswer(await self._session.request(method, url, data=data, headers=headers, allow_redirects=False))
        except TimeoutError:
            raise UpstreamTimeout("The upstream did not answer in time. Try again, or ask for a shorter answer.") from None
        except (aiohttp.ClientError, ConnectionError, ValueError) as failed:
            raise _unreachable(failed) from failed


def _unreachable(failed: Exception) -> ProxyError:
    if isinstance(failed, aiohttp.ClientConnectorError):
        if isinstance(failed.os_error, _RefusedAddressError):
            return UpstreamFailed(str(failed.os_error), code="upstream_address_refused")
        return UpstreamFailed("The upstream can't be reached at the moment. Try again shortly.", code="upstream_unreachable")
    return UpstreamFailed("The upstream broke off before it answered. Try again.", code="upstream_broken")
