"""What OpenAPI says of the data plane, whose routes FastAPI can't see into."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.gateway.protocols import Protocol

_TAG = "Models"
_SECURITY: list[dict[str, list[str]]] = [{"PlatformKey": []}]
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": "string", "nullable": True},
                "code": {"type": "string"},
            },
        }
    },
}
_REFUSALS = {
    "400": ("The request does not fit", "invalid_json", "The request body is not valid JSON: JSON is malformed (byte 0)."),
    "401": ("No key, or one that is not accepted", "invalid_api_key", "Incorrect API key provided."),
    "402": (
        "The account can't cover what the call may cost",
        "insufficient_credit",
        "This call may cost up to 0.5 USD, and 0.2 USD is available.",
    ),
    "403": ("The key may not do this", "model_not_allowed", "This API key may not use the model 'gpt-5'."),
    "404": ("No such model, or one without a price", "model_not_found", "The model 'gpt-9' does not exist here."),
    "413": ("The body is too large", "body_too_large", "The request body is larger than 33554432 bytes, the most that is taken here."),
    "429": ("A limit of the key; `Retry-After` says when", "rate_limit_exceeded", "This API key has used up its requests for this minute."),
    "502": ("The upstream failed", "upstream_failed", "The upstream can't be reached at the moment."),
    "503": ("Billing is not available, so no call is made", "database_unavailable", "Billing is not available at the moment."),
    "504": ("The upstream was too slow", "upstream_timeout", "The upstream did not answer in time."),
}
_EXAMPLES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat.completions": ("Chat, unary or streamed", {"model": "demo-echo", "messages": [{"role": "user", "content": "Hello there"}]}),
    "completions": ("Text completion, unary or streamed", {"model": "gpt-3.5-turbo-instruct", "prompt": "Hello", "max_tokens": 32}),
    "embeddings": ("Embeddings", {"model": "text-embedding-3-small", "input": "Hello there"}),
}
_MODEL = {"id": "demo-echo", "object": "model", "created": 1767225600, "owned_by": "aigcspace"}


def describe(app: FastAPI, protocols: tuple[Protocol, ...]) -> None:
    """Adds the data plane to `app.openapi()`."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes, tags=app.openapi_tags
            )
            schema["paths"] = {protocol.path: {"post": _call(protocol)} for protocol in protocols} | _models() | schema["paths"]
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _call(protocol: Protocol) -> dict[str, Any]:
    summary, example = _EXAMPLES[protocol.api]
    return {
        "tags": [_TAG],
        "summary": summary,
        "operationId": protocol.api,
        "security": _SECURITY,
        "description": "The body goes to the upstream as it is; every field that the upstream knows is allowed. "
        "The answer is the upstream's own, with `X-Request-ID`, by which `GET /logs/{request_id}` explains its bill.",
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"type": "object", "required": ["model"]}, "example": example}},
        },
        "responses": {"200": {"description": "The upstream's answer", "content": {"application/json": {}, "text/event-stream": {}}}}
        | _refusals(),
    }


def _models() -> dict[str, Any]:
    show = {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}, "example": "demo-echo"}
    listing = {"object": "list", "data": [_MODEL]}
    return {
        "/v1/models": {"get": _get("The models that this key may use", "list_models", listing)},
        "/v1/models/{model}": {"get": {**_get("One model", "show_model", _MODEL), "parameters": [show]}},
    }


def _get(summary: str, operation: str, example: dict[str, Any]) -> dict[str, Any]:
    answers = {
        "200": {"description": "OpenAI's shape", "content": {"application/json": {"schema": {"type": "object"}, "example": example}}}
    }
    refusals = {status: refusal for status, refusal in _refusals().items() if status in ("401", "403", "404", "503")}
    return {"tags": [_TAG], "summary": summary, "operationId": operation, "security": _SECURITY, "responses": answers | refusals}


def _refusals() -> dict[str, Any]:
    return {
        status: {
            "description": description,
            "content": {
                "application/json": {
                    "schema": _ERROR,
                    "example": {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}},
                }
            },
        }
        for status, (description, code, message) in _REFUSALS.items()
    }
