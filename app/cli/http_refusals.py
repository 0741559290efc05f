"""What clients are told whose requests never become any, in the envelope of the path that they asked for."""

from typing import Any

from app.api import problems
from app.errors import HeadTooLarge, ProxyError, Unavailable

LARGEST_HEAD = 65_536
"""Bytes of the request line and all headers; of trailers as well."""
MOST_HEADERS = 200
Headers = list[tuple[bytes, bytes]]


def no_room() -> Unavailable:
    return Unavailable("Too many connections are open here. Try again shortly.", code="too_many_connections")


def head_too_large() -> HeadTooLarge:
    return HeadTooLarge(f"The request line and headers are more than {LARGEST_HEAD} bytes or {MOST_HEADERS} headers. Send less.")


def told(refusal: ProxyError, url: bytes, headers: Headers) -> tuple[Headers, bytes]:
    """Headers and content of the answer. `url`, `headers`: as far as they came."""
    names = {name.decode("latin-1") for name, _ in headers}
    media_type, content = problems.told(refusal, url.partition(b"?")[0].decode("latin-1"), names)
    head = {"content-type": media_type, "content-length": str(len(content)), "connection": "close"} | refusal.headers
    return [(name.lower().encode(), value.encode("latin-1")) for name, value in head.items()], content


def answering(refusal: ProxyError) -> Any:
    """An application that says no."""

    async def answer(scope: Any, _receive: Any, send: Any) -> None:
        headers, content = told(refusal, scope["raw_path"], scope["headers"])
        await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    return answer
