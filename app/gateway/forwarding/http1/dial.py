"""A connection to a server: its name resolved, the addresses tried as RFC 8305 has it, TLS on top.

Where a name leads to is checked against `metadata_addresses`. Names are remembered for `REMEMBERED` seconds, and forgotten
where they lead nowhere. All of it together has one time limit. Raises `Unreachable` and `Stalled`.
"""

import asyncio
import socket
import ssl
import time

from aiohappyeyeballs import AddrInfoType, start_connection

from app.catalog.metadata_addresses import REFUSED, is_refused
from app.gateway.forwarding.http1.connection import Connection, Pool
from app.gateway.forwarding.http1.faults import AddressRefused, Stalled, Unreachable
from app.gateway.forwarding.http1.origin import Origin

REMEMBERED = 30.0
NEXT_ADDRESS_AFTER = 0.25
"""Seconds after which the next address is tried, too (RFC 8305, 5)."""


class Dialer:
    """`timeout`, `idle_timeout`: seconds, for a connection, and for its silence."""

    def __init__(self, *, timeout: float, idle_timeout: float, allow_link_local: bool) -> None:
        self._timeout = timeout
        self._idle_timeout = idle_timeout
        self._allow_link_local = allow_link_local
        self._known: dict[tuple[str, int], tuple[float, list[AddrInfoType]]] = {}
        self._context = ssl.create_default_context()
        self._context.set_alpn_protocols(["http/1.1"])

    async def dial(self, origin: Origin, pool: Pool, *, within: float) -> Connection:
        """`within`: seconds that the call has left."""
        try:
            async with asyncio.timeout(min(self._timeout, within)):
                return await self._connect(origin, pool)
        except TimeoutError:
            raise Stalled("no connection in time") from None
        except (OSError, UnicodeError, RuntimeError) as failed:  # uvloop raises the last where a socket closes under it
            self._known.pop((origin.host, origin.port), None)
            raise Unreachable(f"no connection ({type(failed).__name__})") from failed

    async def _connect(self, origin: Origin, pool: Pool) -> Connection:
        loop = asyncio.get_running_loop()
        sock = await start_connection(await self._addresses(origin), happy_eyeballs_delay=NEXT_ADDRESS_AFTER, loop=loop)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _, connection = await loop.create_connection(
                lambda: Connection(origin, pool, idle_timeout=self._idle_timeout),
                sock=sock,
                ssl=self._context if origin.is_tls else None,
                server_hostname=origin.host.rstrip(".") if origin.is_tls else None,
            )
        except BaseException:
            sock.close()
            raise
        return connection

    async def _addresses(self, origin: Origin) -> list[AddrInfoType]:
        place = (origin.host, origin.port)
        until, addresses = self._known.get(place, (0.0, []))
        if time.monotonic() < until:
            return addresses
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(*place, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
        addresses = [address for address in found if self._allow_link_local or not is_refused(str(address[4][0]))]
        if not addresses:
            raise AddressRefused(f"The upstream's address {REFUSED}.")
        self._known[place] = (time.monotonic() + REMEMBERED, addresses)
        return addresses
