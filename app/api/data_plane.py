"""The routes that clients call models by.

Calls of models are answered in front of the FastAPI application: in it, each piece of a stream would pass five layers of
middleware that have nothing to do for it. Its routes for the same paths answer other methods, and what OpenAPI says of
them is written in `data_plane_openapi`.
"""

import time
from typing import Any

import msgspec
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from uuid_utils.compat import uuid7

from app.api.data_plane_openapi import describe
from app.api.dependencies import Services
from app.errors import NotFound, ProxyError
from app.gateway.authenticate import authenticate, check_caller
from app.gateway.call import handle_call
from app.gateway.protocols import PROTOCOLS, Protocol, openai
from app.gateway.protocols.paths import Paths

_STARTED = int(time.time())


class CallEndpoint:
    """Carries the calls of one protocol. A class, so that Starlette hands it the bare ASGI call."""

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await handle_call(scope["app"].state.services.gateway, self._protocol, scope, receive, send)


def data_plane_first(app: FastAPI) -> ASGIApp:
    """The whole application: calls of models go straight to the gateway, all else to `app`."""
    paths = Paths(PROTOCOLS)

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await app(scope, receive, send)
        elif protocol := paths.exact(scope["path"]):
            await handle_call(app.state.services.gateway, protocol, scope, receive, send)
        elif found := paths.find(scope["path"], scope["query_string"]):
            protocol, asked = found
            await handle_call(app.state.services.gateway, protocol, scope, receive, send, asked=asked)
        else:
            await app(scope, receive, send)

    return serve


def include_data_plane(app: FastAPI) -> None:
    for protocol in PROTOCOLS:
        app.router.routes.append(Route(protocol.path, CallEndpoint(protocol), methods=["POST"]))
    app.router.routes.append(Route("/v1/models", list_models, methods=["GET"]))
    app.router.routes.append(Route("/v1/models/{model:path}", show_model, methods=["GET"]))
    describe(app, PROTOCOLS)


async def list_models(request: Request) -> Response:
    try:
        names = await _names(request)
    except ProxyError as refusal:
        return _refused(refusal)
    return _json({"object": "list", "data": [_model(name) for name in names]})


async def show_model(request: Request) -> Response:
    name = request.path_params["model"]
    try:
        if name not in await _names(request):
            raise NotFound(f"The model {name!r} does not exist here. `GET /v1/models` lists those that do.", code="model_not_found")
    except ProxyError as refusal:
        return _refused(refusal)
    return _json(_model(name))


async def _names(request: Request) -> list[str]:
    """The models that the caller's key may use."""
    services: Services = request.app.state.services
    caller = await authenticate(services.callers, request.scope)
    check_caller(caller, request.client.host if request.client else None)
    return [name for name in services.catalog.snapshot.model_names() if caller.may_use(name)]


def _model(name: str) -> dict[str, Any]:
    """OpenAI's model object: https://platform.openai.com/docs/api-reference/models/object."""
    return {"id": name, "object": "model", "created": _STARTED, "owned_by": "aigcspace"}


def _refused(refusal: ProxyError) -> Response:
    return Response(openai.error_body(refusal), refusal.status, {**refusal.headers, **_identified()}, "application/json")


def _json(content: object) -> Response:
    return Response(msgspec.json.encode(content), headers=_identified(), media_type="application/json")


def _identified() -> dict[str, str]:
    return {"X-Request-ID": str(uuid7())}
