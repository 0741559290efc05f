"""Bodies that say themselves that they are too large.

FastAPI's own limit is answered as a problem where a body turns out to be too large, and in plain text where its
`Content-Length` says so. This stands before it, for the operators' routes: they alone have a limit that is FastAPI's.
"""

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.problems import answer
from app.errors import BodyTooLarge


class DeclaredBodyLimit:
    """`largest`: in bytes."""

    def __init__(self, app: ASGIApp, largest: int) -> None:
        self._app = app
        self._largest = largest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/admin/") or _declared(scope) <= self._largest:
            await self._app(scope, receive, send)
            return
        refused = answer(Request(scope), BodyTooLarge("The body is larger than what is taken here. Send less."))
        await refused(scope, receive, send)


def _declared(scope: Scope) -> int:
    lengths = [value for name, value in scope["headers"] if name == b"content-length"]
    return int(lengths[0]) if lengths and lengths[0].isdigit() else 0
