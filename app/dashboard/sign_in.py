"""Signing in, with an operator's token or a platform key, and out."""

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field, SecretStr

from app.api import fields
from app.api.dependencies import Services, ServicesOf, operator_of
from app.api.session import Kind, require_own_page
from app.catalog.admin_tokens import ROOT
from app.dashboard.rendering import renderer_of
from app.dashboard.visitor import Role, visitor_of
from app.errors import Unauthenticated
from app.gateway.admission.authenticate import check_caller

router = APIRouter(prefix="/dashboard", include_in_schema=False)


class Presented(fields.Request):
    secret: SecretStr = Field(min_length=1, max_length=1000)


class SignedIn(fields.Answer):
    role: Role
    name: str


async def _own_page(request: Request) -> None:
    require_own_page(request.headers)


@router.get("/sign-in")
async def show(request: Request) -> Response:
    return renderer_of(request).page(request, "sign_in.html")


@router.post("/session", status_code=204, dependencies=[Depends(_own_page)])
async def sign_in(request: Request, services: ServicesOf, body: Presented, response: Response) -> None:
    """429 `too_many_wrong_keys`: wait. 401, 403: what is wrong with the key."""
    address = request.client.host if request.client else None
    services.guesses.check(address)
    secret = body.secret.get_secret_value().strip()
    try:
        kind = await _kind_of(services, secret, address)
    except Unauthenticated:
        services.guesses.wrong(address)
        raise
    services.sessions.begin(request, response, kind, secret)


@router.get("/session")
async def show_session(request: Request, services: ServicesOf) -> SignedIn | None:
    """null: nobody. Asked by the sign-in page: a browser that follows a link from elsewhere has not sent its cookie."""
    visitor = await visitor_of(request, services, services.sessions.of(request))
    return SignedIn(role=visitor.role, name=visitor.name) if visitor else None


@router.delete("/session", status_code=204, dependencies=[Depends(_own_page)])
async def sign_out(services: ServicesOf, response: Response) -> None:
    services.sessions.end(response)


async def _kind_of(services: Services, secret: str, address: str | None) -> Kind:
    """Raises `Unauthenticated` for what is neither a token nor a key, and `Forbidden` for a key that may not be used."""
    operator = await operator_of(services, secret)
    if operator is not None:
        return "root" if operator == ROOT else "token"
    try:
        check_caller(await services.callers.find(secret, address), address)
    except Unauthenticated as unknown:
        if unknown.code != Unauthenticated.default_code:
            raise
        raise Unauthenticated(
            "This is neither an operator's token nor a platform key. Check that all of it was copied.", code="unknown_secret"
        ) from None
    return "key"
