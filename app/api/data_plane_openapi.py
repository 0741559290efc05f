"""What OpenAPI says of the data plane, whose routes FastAPI can't see into.

A protocol is described by what it says of itself: its path, its name, its error envelope. One that has no example here
gets a general one.
"""

import json
import re
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.api.dependencies import PLATFORM_KEY
from app.errors import (
    BodyTooLarge,
    Forbidden,
    InsufficientCredit,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    ProxyError,
    Unauthenticated,
    Unavailable,
    UnexpectedFault,
    UpstreamFailed,
    UpstreamTimeout,
)
from app.gateway.protocols import Protocol, TakesForms
from app.gateway.protocols.openai import error_body

_TAG = "Models"
_SECURITY: list[dict[str, list[str]]] = [{PLATFORM_KEY: []}]
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
                "param": {"type": ["string", "null"]},
                "code": {"type": "string"},
            },
        }
    },
}
"""OpenAI's envelope, as JSON Schema 2020-12, which is what OpenAPI 3.1 takes."""
_REFUSALS: tuple[tuple[str, ProxyError], ...] = (
    ("The request does not fit", InvalidRequest("The request body is not valid JSON: JSON is malformed (byte 0).", code="invalid_json")),
    ("No key, or one that is not accepted", Unauthenticated("Incorrect API key provided. Ask your operator for a new one.")),
    (
        "The account can't cover what the call may cost",
        InsufficientCredit("This call may cost up to 0.5 USD, and 0.2 USD is available. Ask your operator for credit."),
    ),
    ("The key may not do this", Forbidden("This API key may not use the model 'gpt-5'.", code="model_not_allowed")),
    ("No such model, or one without a price", NotFound("The model 'gpt-9' does not exist here.", code="model_not_found")),
    ("The body is too large", BodyTooLarge("The request body is larger than 33554432 bytes, the most that is taken here. Send less.")),
    (
        "A limit of the key; `Retry-After` says when",
        LimitExceeded("This API key has used up its requests for this minute. Try again in 12 s.", retry_after=12),
    ),
    ("A fault of this service", UnexpectedFault()),
    ("The upstream failed", UpstreamFailed("The upstream can't be reached at the moment. Try again shortly.", code="upstream_unreachable")),
    (
        "Billing is not available, so no call is made",
        Unavailable(
            "Billing is not available at the moment, so the call was not made. Try again shortly.",
            code="database_unavailable",
        ),
    ),
    ("The upstream was too slow", UpstreamTimeout("The upstream did not answer in time. Try again, or ask for a shorter answer.")),
)
_OF_LISTING = (401, 403, 404, 500, 503)
_EXAMPLES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat.completions": ("Chat, unary or streamed", {"model": "demo-echo", "messages": [{"role": "user", "content": "Hello there"}]}),
    "completions": ("Text completion, unary or streamed", {"model": "gpt-3.5-turbo-instruct", "prompt": "Hello", "max_tokens": 32}),
    "embeddings": ("Embeddings", {"model": "text-embedding-3-small", "input": "Hello there"}),
    "responses": ("Responses, unary or streamed, also in the background", {"model": "gpt-5-mini", "input": "Hello there"}),
    "responses.compact": ("Compact the context of responses", {"model": "gpt-5-mini", "input": "Hello there"}),
    "responses.input_tokens": ("Count the input of a response, free of charge", {"model": "gpt-5-mini", "input": "Hello there"}),
    "messages": (
        "Anthropic's messages, unary or streamed",
        {"model": "claude-sonnet-4-5", "max_tokens": 300, "messages": [{"role": "user", "content": "Hello there"}]},
    ),
    "messages.count_tokens": (
        "Count the input of a message, free of charge",
        {"model": "claude-sonnet-4-5", "messages": [{"role": "user", "content": "Hello there"}]},
    ),
    "generateContent": ("Gemini's answers", {"contents": [{"role": "user", "parts": [{"text": "Hello there"}]}]}),
    "streamGenerateContent": ("Gemini's answers as a stream", {"contents": [{"role": "user", "parts": [{"text": "Hello there"}]}]}),
    "countTokens": ("Count tokens, free of charge", {"contents": [{"role": "user", "parts": [{"text": "Hello there"}]}]}),
    "embedContent": ("Gemini's embeddings", {"content": {"parts": [{"text": "Hello there"}]}}),
    "batchEmbedContents": (
        "Several of Gemini's embeddings",
        {"requests": [{"model": "models/gemini-embedding-001", "content": {"parts": [{"text": "Hello there"}]}}]},
    ),
    "images.generations": ("Images, unary or streamed", {"model": "gpt-image-1", "prompt": "A lighthouse", "size": "1024x1024"}),
    "images.edits": (
        "Edits of images, unary or streamed",
        {"model": "gpt-image-1", "prompt": "At night", "images": [{"image_url": "https://example.com/lighthouse.png"}]},
    ),
    "images.variations": ("Variations of an image", {"model": "dall-e-2"}),
    "audio.speech": ("Speech", {"model": "gpt-4o-mini-tts", "input": "Hello there", "voice": "alloy"}),
    "audio.transcriptions": ("Transcription, unary or streamed", {"model": "whisper-1"}),
    "audio.translations": ("Translation of speech into English", {"model": "whisper-1"}),
    "moderations": ("Moderation, free of charge", {"model": "omni-moderation-latest", "input": "Hello there"}),
    "rerank": ("Reranking", {"model": "rerank-v3.5", "query": "A lighthouse", "documents": ["A tower with a lamp", "A boat"]}),
    "rerank.v2": ("Reranking", {"model": "rerank-v3.5", "query": "A lighthouse", "documents": ["A tower with a lamp", "A boat"]}),
}
_FILES = {"images.edits": "image", "images.variations": "image", "audio.transcriptions": "file", "audio.translations": "file"}
"""What the file is called in protocols that take forms."""
_FORMS_ALONE = frozenset({"images.variations", "audio.transcriptions", "audio.translations"})
_ANSWERS: dict[str, tuple[str, ...]] = {
    "audio.speech": ("audio/mpeg", "text/event-stream"),
    "audio.transcriptions": ("application/json", "text/plain", "text/event-stream"),
    "audio.translations": ("application/json", "text/plain"),
}
_MODEL = {"id": "demo-echo", "object": "model", "created": 1767225600, "owned_by": "aigcspace"}


def describe(app: FastAPI, protocols: tuple[Protocol, ...]) -> None:
    """Adds the data plane to `app.openapi()`."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes, tags=app.openapi_tags
            )
            calls = {protocol.path: {"post": _call(protocol)} for protocol in protocols}
            schema["paths"] = calls | _models() | _kept() | schema["paths"]
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _call(protocol: Protocol) -> dict[str, Any]:
    in_path = re.findall(r"{(\w+)}", protocol.path)
    general = (f"Calls by the protocol `{protocol.api}`", {} if "model" in in_path else {"model": "demo-echo"})
    name = protocol.path.partition(":")[2] or protocol.api
    summary, example = _EXAMPLES.get(name, general)
    return {
        "tags": [_TAG],
        "summary": summary,
        "operationId": name,
        "security": _SECURITY,
        "description": "The body goes to the upstream as it is; every field that the upstream knows is allowed. "
        "The answer is the upstream's own, with `X-Request-ID`, by which `GET /logs/{request_id}` explains its bill.",
        "parameters": [_in_path(name) for name in in_path],
        "requestBody": {"required": True, "content": _bodies(protocol, [name for name in ("model",) if name not in in_path], example)},
        "responses": {
            "200": {
                "description": "The upstream's answer",
                "content": {kind: {} for kind in _ANSWERS.get(protocol.api, ("application/json", "text/event-stream"))},
            }
        }
        | _refusals(protocol.error_body),
    }


def _bodies(protocol: Protocol, required: list[str], example: dict[str, Any]) -> dict[str, Any]:
    """As JSON, as a form, or as either."""
    bodies: dict[str, Any] = {}
    if protocol.api not in _FORMS_ALONE:
        bodies["application/json"] = {"schema": {"type": "object", "required": required}, "example": example}
    if isinstance(protocol, TakesForms):
        name = _FILES.get(protocol.api, "file")
        fields = {"model": {"type": "string"}, name: {"type": "string", "contentMediaType": "application/octet-stream"}}
        schema = {"type": "object", "required": [*required, name], "properties": fields}
        bodies["multipart/form-data"] = {"schema": schema, "example": {"model": example.get("model", "demo-echo"), name: "..."}}
    return bodies


def _models() -> dict[str, Any]:
    listing = {"object": "list", "data": [_MODEL]}
    return {
        "/v1/models": {"get": _get("The models that this key may use", "list_models", listing)},
        "/v1/models/{model}": {"get": {**_get("One model", "show_model", _MODEL), "parameters": [_in_path("model")]}},
    }


def _kept() -> dict[str, Any]:
    """What an upstream keeps, for the user who made it."""
    response, deleted = (
        {"id": "resp_1", "object": "response", "status": "completed"},
        {"id": "resp_1", "object": "response", "deleted": True},
    )
    items = {"object": "list", "data": [], "has_more": False}
    operations = {
        "/v1/responses/{response_id}": {
            "get": _get("A response that the upstream keeps", "get_response", response),
            "delete": _get("Delete a response", "delete_response", deleted),
        },
        "/v1/responses/{response_id}/cancel": {"post": _get("Cancel a background response", "cancel_response", response)},
        "/v1/responses/{response_id}/input_items": {"get": _get("What a response was made of", "list_input_items", items)},
    }
    for methods in operations.values():
        for operation in methods.values():
            operation["parameters"] = [_in_path("response_id")]
    return operations


def _in_path(name: str) -> dict[str, Any]:
    example = "resp_1" if name == "response_id" else "demo-echo"
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}, "example": example}


def _get(summary: str, operation: str, example: dict[str, Any]) -> dict[str, Any]:
    answers = {
        "200": {"description": "OpenAI's shape", "content": {"application/json": {"schema": {"type": "object"}, "example": example}}}
    }
    refusals = {status: refusal for status, refusal in _refusals(error_body).items() if int(status) in _OF_LISTING}
    return {"tags": [_TAG], "summary": summary, "operationId": operation, "security": _SECURITY, "responses": answers | refusals}


def _refusals(envelope: Callable[[ProxyError], bytes]) -> dict[str, Any]:
    """What a refusal looks like in the protocol's own envelope, whose schema is known here where it is OpenAI's."""
    schema = _ERROR if envelope is error_body else {"type": "object"}
    return {
        str(error.status): {
            "description": description,
            "content": {"application/json": {"schema": schema, "example": json.loads(envelope(error))}},
        }
        for description, error in _REFUSALS
    }
