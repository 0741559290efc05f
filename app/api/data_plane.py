"""The routes that clients call models by.

Calls of models are answered in front of the FastAPI application: in it, each piece of a stream would pass five layers of
middleware that have nothing to do for it. Its routes for the same paths answer other methods, and what OpenAPI says of
them is written in `data_plane_openapi`.
"""

from fastapi import FastAPI
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.data_plane_openapi import describe
from app.api.other_methods import OtherMethods
from app.gateway.by_id import asked_by_id, handle_by_id
from app.gateway.call import handle_call
from app.gateway.protocols import PROTOCOLS, Protocol
from app.gateway.protocols.paths import Paths, asked_in


class CallEndpoint:
    """Carries the calls of one protocol. A class, so that Starlette hands it the bare ASGI call."""

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await handle_call(scope["app"].state.services.gateway, self._protocol, scope, receive, send)


def data_plane_first(app: FastAPI) -> ASGIApp:
    """The whole application: calls of models go straight to the gateway, all else to `app`."""
    paths = Paths(PROTOCOLS)
    others = OtherMethods(app, paths)

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await others(scope, receive, send)
        elif scope["method"] == "POST" and (protocol := paths.exact(scope["path"])):
            await handle_call(app.state.services.gateway, protocol, scope, receive, send, asked=asked_in(scope["query_string"]))
        elif scope["method"] == "POST" and (found := paths.find(scope["path"], scope["query_string"])):
            protocol, asked = found
            await handle_call(app.state.services.gateway, protocol, scope, receive, send, asked=asked)
        elif by_id := asked_by_id(scope["method"], scope["path"]):
            await handle_by_id(app.state.services.gateway, by_id, scope, receive, send)
        elif scope["method"] != "POST":
            await others(scope, receive, send)
        else:
            await app(scope, receive, send)

    return serve


def include_data_plane(app: FastAPI) -> None:
    for protocol in PROTOCOLS:
        app.router.routes.append(Route(protocol.path, CallEndpoint(protocol), methods=["POST"]))
    describe(app, PROTOCOLS)
