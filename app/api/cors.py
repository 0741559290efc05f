"""Cross-origin requests: web clients call the data plane and read their own balance; nothing else is open to them."""

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from app.gateway.protocols.envelopes import envelope_of
from app.gateway.receiving.client import SERVER_SEND

_EXPOSED = ("X-Request-ID", "Request-ID", "X-Max-Tokens-Applied", "Retry-After")
_REMEMBERED = 3600
"""Seconds for which a browser need not ask again."""


def for_browsers(app: ASGIApp, origins: str) -> ASGIApp:
    """`origins`: as `CORS_ORIGINS` has them."""
    opened = CORSMiddleware(
        app,
        allow_origins=[origin.strip() for origin in origins.split(",") if origin.strip()],
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["*"],
        expose_headers=_EXPOSED,
        max_age=_REMEMBERED,
    )

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        is_open = scope["type"] == "http" and envelope_of(scope["path"], ()) is not None
        scope[SERVER_SEND] = send
        await (opened if is_open else app)(scope, receive, send)

    return serve
