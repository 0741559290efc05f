"""The models that a key may use, in the shape of the client that asks: OpenAI's, Anthropic's where the request has
`anthropic-version`, Gemini's under `/v1beta` and where the request has `x-goog-api-key`.

https://platform.openai.com/docs/api-reference/models, https://docs.anthropic.com/en/api/models-list,
https://ai.google.dev/api/models.
"""

import time
from datetime import UTC, datetime
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response
from uuid_utils.compat import uuid7

from app.api.dependencies import CallerOf, ServicesOf
from app.errors import NotFound

router = APIRouter(include_in_schema=False)
_STARTED = int(time.time())
_STARTED_AT = datetime.fromtimestamp(_STARTED, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
_PLACES = ("/v1", "", "/v1/v1", "/openai/v1", "/openai", "/v1beta/openai", "/v1beta", "/v1alpha")
"""Before `/models`, as clients put paths together: see `gateway.protocols.paths`."""
_METHODS = ["generateContent", "streamGenerateContent", "countTokens", "embedContent", "batchEmbedContents"]


async def list_models(request: Request, services: ServicesOf, caller: CallerOf) -> Response:
    names = [name for name in services.catalog.snapshot.model_names if caller.may_use(name)]
    match _asked_by(request):
        case "anthropic":
            first, last = (names[0], names[-1]) if names else (None, None)
            return _json({"data": [_of_anthropic(name) for name in names], "has_more": False, "first_id": first, "last_id": last})
        case "gemini":
            return _json({"models": [_of_gemini(name) for name in names]})
    return _json({"object": "list", "data": [_of_openai(name) for name in names]})


async def show_model(request: Request, model: str, services: ServicesOf, caller: CallerOf) -> Response:
    if not (services.catalog.snapshot.has_model(model) and caller.may_use(model)):
        raise NotFound(f"The model {model!r} does not exist here. `GET /v1/models` lists those that do.", code="model_not_found")
    shape = {"anthropic": _of_anthropic, "gemini": _of_gemini}.get(_asked_by(request), _of_openai)
    return _json(shape(model))


for place in _PLACES:
    router.get(f"{place}/models")(list_models)
    router.get(f"{place}/models/{{model:path}}")(show_model)


def _asked_by(request: Request) -> str:
    if "anthropic-version" in request.headers:
        return "anthropic"
    is_gemini = request.url.path.startswith(("/v1beta/models", "/v1alpha/models")) or "x-goog-api-key" in request.headers
    return "gemini" if is_gemini else "openai"


def _of_openai(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": _STARTED, "owned_by": "aigcspace"}


def _of_anthropic(name: str) -> dict[str, Any]:
    return {"type": "model", "id": name, "display_name": name, "created_at": _STARTED_AT}


def _of_gemini(name: str) -> dict[str, Any]:
    return {"name": f"models/{name}", "displayName": name, "supportedGenerationMethods": _METHODS}


def _json(content: object) -> Response:
    return Response(msgspec.json.encode(content), headers={"X-Request-ID": str(uuid7())}, media_type="application/json")
