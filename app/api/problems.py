"""Errors on their way out: RFC 9457 problem details, and for the paths of the data plane the envelope of their protocol.

Values that were sent are never repeated in what is said about them: they may be secrets.
"""

from collections.abc import Container, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Scope
from uuid_utils.compat import uuid7

from app.errors import BodyTooLarge, InvalidRequest, MethodNotAllowed, NotFound, ProxyError, UnacceptableValue, UnexpectedFault
from app.gateway.protocols.envelopes import envelope_of
from app.gateway.protocols.unsupported import not_supported

PROBLEM = "application/problem+json"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


class FieldError(BaseModel):
    field: str = Field(description="Where it is, as in `body.rates`.", examples=["body.amount"])
    message: str = Field(examples=["Input should be a valid decimal"])


class Problem(BaseModel):
    """RFC 9457."""

    type: str = Field(default="about:blank", examples=["about:blank"])
    title: str = Field(examples=["Conflict"])
    status: int = Field(examples=[409])
    detail: str = Field(description="For people: what is wrong and what to do.", examples=["There is a user 'alice' already."])
    code: str = Field(description="For programs.", examples=["user_exists"])
    errors: list[FieldError] | None = Field(default=None, description="The fields at fault, where the request is malformed.")


def install(app: FastAPI) -> None:
    app.add_exception_handler(ProxyError, _on_proxy_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(Exception, _on_defect)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route: what it answers beyond success."""
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schema["properties"]["errors"]["anyOf"][0]["items"] = schema.pop("$defs")["FieldError"]
    return {status: {"description": HTTPStatus(status).phrase, "content": {PROBLEM: {"schema": schema}}} for status in statuses}


async def _on_proxy_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProxyError)
    faults = error.faults if isinstance(error, UnacceptableValue) else ()
    return answer(request, error, [FieldError(field=field, message=message) for field, message in faults] or None)


async def _on_invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = [FieldError(field=".".join(str(part) for part in fault["loc"]), message=_said(fault)) for fault in error.errors()]
    if any(fault["type"] == "json_invalid" for fault in error.errors()):
        return answer(request, InvalidRequest("The body is not valid JSON. Correct it and send it again.", code="invalid_json"), faults)
    said = "; ".join(f"{fault.field}: {fault.message}" for fault in faults)
    return answer(request, UnacceptableValue(f"The request can't be taken as it is. {said}.", code="invalid_request"), faults)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    asked = f"{request.method} {request.url.path}"
    is_unknown = error.status_code in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)
    if is_unknown and (missing := not_supported(request.url.path)):
        return answer(request, missing)
    match error.status_code:
        case HTTPStatus.NOT_FOUND:
            return answer(request, NotFound(f"There is nothing at {asked}. See /docs for what there is.", code=_unknown_code(request)))
        case HTTPStatus.METHOD_NOT_ALLOWED:
            return answer(request, not_allowed(request, methods_of(request.app, request.scope)))
        case HTTPStatus.BAD_REQUEST:
            return answer(request, InvalidRequest("The body can't be read. Send valid JSON in UTF-8.", code="invalid_json"))
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return answer(request, BodyTooLarge("The body is larger than what is taken here. Send less."))
        case status:
            return answer(request, InvalidRequest(error.detail, code="http_error", headers=dict(error.headers or {})), status=status)


async def _on_defect(request: Request, _: Exception) -> Response:
    return answer(request, UnexpectedFault())


def answer(request: Request, error: ProxyError, faults: list[FieldError] | None = None, *, status: int | None = None) -> Response:
    """The error in the envelope of the path that was asked for."""
    status = status or error.status
    if envelope := envelope_of(request.url.path, request.headers):
        headers = {**error.headers, "X-Request-ID": str(uuid7())}
        return Response(envelope(error), status, headers=headers, media_type="application/json")
    problem = Problem(title=HTTPStatus(status).phrase, status=status, detail=str(error), code=error.code, errors=faults)
    return JSONResponse(problem.model_dump(exclude_none=True), status, headers=error.headers, media_type=PROBLEM)


def told(error: ProxyError, path: str, headers: Container[str]) -> tuple[str, bytes]:
    """What is said of a request that never became one, and its media type. `headers`: the names of those that came."""
    if envelope := envelope_of(path, headers):
        return "application/json", envelope(error)
    problem = Problem(title=HTTPStatus(error.status).phrase, status=error.status, detail=str(error), code=error.code)
    return PROBLEM, problem.model_dump_json(exclude_none=True).encode()


def _said(fault: Mapping[str, Any]) -> str:
    if fault["type"] == "extra_forbidden":
        return "is not known here; check its spelling or leave it out"
    return str(fault["msg"]).removeprefix("Value error, ")


def methods_of(app: FastAPI, scope: Scope) -> list[str]:
    """All methods of the path: Starlette itself names those of the first route that fits."""
    asked = {method: {**scope, "method": method} for method in METHODS}
    return [method for method, wanted in asked.items() if any(route.matches(wanted)[0] is Match.FULL for route in app.router.routes)]


def allow_header(path: str, methods: Sequence[str]) -> dict[str, str]:
    """`Allow`, with what is answered beside the methods that do something."""
    also = [*(["HEAD"] if "GET" in methods else []), *(["OPTIONS"] if envelope_of(path, ()) else [])]
    return {"Allow": ", ".join([*methods, *also])}


def not_allowed(request: Request, methods: Sequence[str]) -> MethodNotAllowed:
    asked = f"{request.method} {request.url.path}"
    return MethodNotAllowed(f"{asked} is not possible here; use {', '.join(methods)}.", headers=allow_header(request.url.path, methods))


def _unknown_code(request: Request) -> str:
    return "unknown_url" if envelope_of(request.url.path, request.headers) else "not_found"
