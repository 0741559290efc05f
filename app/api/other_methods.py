"""Requests that are no calls, as their method shows: HEAD, OPTIONS, an attempt at WebSocket, and GET where a call is to be
posted. What is left is the application's.

The server speaks no WebSocket, so that a handshake comes as the GET that it is. The answer is a 426, at which Codex and
OpenAI's SDKs go on with HTTP.
"""

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send
from uuid_utils.compat import uuid7

from app.api.problems import allow_header, answer, methods_of, not_allowed
from app.errors import UpgradeRequired
from app.gateway.protocols.envelopes import envelope_of
from app.gateway.protocols.paths import Paths

_USE_HTTP = {"Upgrade": "HTTP/1.1", "Connection": "Upgrade"}
"""RFC 9110, 15.5.22: a 426 names the protocol that is wanted."""


class OtherMethods:
    def __init__(self, app: FastAPI, paths: Paths) -> None:
        self._app = app
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if reply := self._reply(scope) if scope["type"] == "http" else None:
            await reply(scope, receive, send)
        elif scope["type"] == "http" and scope["method"] == "HEAD":
            await self._app({**scope, "method": "GET"}, receive, send)  # the server leaves the body out
        else:
            await self._app(scope, receive, send)

    def _reply(self, scope: Scope) -> Response | None:
        """None: the application answers."""
        path = scope["path"]
        request = Request(scope)
        if envelope_of(path, request.headers) and request.headers.get("upgrade", "").lower() == "websocket":
            return answer(request, UpgradeRequired(f"WebSocket is not spoken here. Use HTTP: `POST {path}`.", headers=_USE_HTTP))
        is_call = bool(self._paths.exact(path) or self._paths.find(path, scope["query_string"]))
        if scope["method"] == "OPTIONS" and envelope_of(path, ()):
            methods = ["POST"] if is_call else methods_of(self._app, scope)
            headers = {**allow_header(path, methods), "X-Request-ID": str(uuid7())}
            return Response(status_code=204, headers=headers) if methods else None
        return answer(request, not_allowed(request, ["POST"])) if is_call else None
