"""What is served where, if operators have a port of their own: there all but the calls of models and what belongs to them, which
are served at the other alone. What is not served at a port is not found there."""

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.problems import answer
from app.errors import NotFound
from app.gateway.protocols.envelopes import envelope_of
from app.runtime.demo_model import PATH as DEMO

_EVERYWHERE = ("/healthz", "/readyz")


def two_ports(app: ASGIApp, *, admin_port: int) -> ASGIApp:
    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _is_served(scope["path"], is_admin_port=scope["server"][1] == admin_port):
            await answer(Request(scope), NotFound("This is served at another port of this service."))(scope, receive, send)
            return
        await app(scope, receive, send)

    return serve


def _is_served(path: str, *, is_admin_port: bool) -> bool:
    if path in _EVERYWHERE:
        return True
    is_of_clients = envelope_of(path, ()) is not None or path.startswith(f"{DEMO}/")
    return is_of_clients is not is_admin_port
