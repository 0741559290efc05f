"""HTTP as uvicorn speaks it, for clients that offer HTTP/2 beside.

Java's own client sends `Upgrade: h2c` with each request to a plain address, which a server may ignore (RFC 9110, 7.8).
uvicorn's parser takes what follows such a head for the other protocol, and loses the body (seen with httptools 0.9): so
the offer is taken out before the parser sees it. An offer cut in two by the network stays.
"""

import re

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_OFFER = re.compile(rb"\r\nupgrade:[ \t]*h2c[ \t]*(?=\r\n)", re.IGNORECASE)
_LARGEST_HEAD = 16_384
"""Bytes in which an offer is looked for."""


class HttpProtocol(HttpToolsProtocol):
    def data_received(self, data: bytes) -> None:
        begins_request = self.cycle is None or self.cycle.response_complete
        if begins_request and data.find(b"h2c", 0, _LARGEST_HEAD) >= 0:
            head, end, body = data.partition(b"\r\n\r\n")
            data = _OFFER.sub(b"", head + b"\r\n")[:-2] + end + body
        super().data_received(data)
