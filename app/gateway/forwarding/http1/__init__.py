"""HTTP/1.1 as a client, over httptools (llhttp): with aiohttp in its place a call takes a quarter more of the proxy's CPU.

    origin.py       what of a URL is an address, and what is asked for there
    dial.py         a connection: resolver, TCP, TLS
    connection.py   one connection: requests go out, the parser is fed
    exchange.py     one request and its answer, as it comes
    client.py       connections that are kept, and the way of a request through one
    faults.py       what may go wrong

An answer whose framing could be read in two ways is none, and after anything unusual its connection is closed: what one
caller is answered must never reach another.
"""

from app.gateway.forwarding.http1.client import Client, Streamed
from app.gateway.forwarding.http1.exchange import Exchange
from app.gateway.forwarding.http1.faults import AddressRefused, Cut, HttpFault, NotHttp, Stalled, TooLong, Unreachable

__all__ = ["AddressRefused", "Client", "Cut", "Exchange", "HttpFault", "NotHttp", "Stalled", "Streamed", "TooLong", "Unreachable"]
