"""The pages, and who sees which."""

from dataclasses import dataclass
from functools import partial
from typing import Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from app.api.dependencies import ServicesOf
from app.dashboard.rendering import HEADERS, renderer_of
from app.dashboard.visitor import EVERYBODY, OPERATORS, Role, visitor_of

Section = Literal["usage", "own", "people", "models", "system"]


@dataclass(frozen=True, slots=True)
class Page:
    """At `/dashboard/{name}`, in `section` of the navigation. `roles`: who sees it; its requests are checked again, each by itself."""

    name: str
    section: Section
    roles: tuple[Role, ...]
    template: str = "page.html"


PAGES = (
    Page("overview", "usage", EVERYBODY),
    Page("calls", "usage", EVERYBODY),
    Page("playground", "usage", EVERYBODY),
    Page("account", "own", ("owner",)),
    Page("users", "people", OPERATORS),
    Page("keys", "people", OPERATORS),
    Page("groups", "people", OPERATORS),
    Page("codes", "people", OPERATORS),
    Page("upstreams", "models", OPERATORS),
    Page("routes", "models", OPERATORS),
    Page("prices", "models", OPERATORS),
    Page("models", "models", OPERATORS),
    Page("tokens", "system", OPERATORS),
    Page("audit", "system", OPERATORS),
)
FIRST = "/dashboard/overview"
SIGN_IN = "/dashboard/sign-in"


def router_of() -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    @router.get("/dashboard")
    @router.get("/dashboard/")
    async def lead_there() -> Response:
        return RedirectResponse(FIRST, 303)

    for page in PAGES:
        router.add_api_route(f"/dashboard/{page.name}", partial(_show, page), methods=["GET"])
    return router


async def _show(page: Page, request: Request, services: ServicesOf) -> Response:
    session = services.sessions.of(request)
    visitor = await visitor_of(request, services, session)
    if session is None or visitor is None:
        asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"{SIGN_IN}?{urlencode({'next': asked})}", 303, headers=HEADERS)
    if visitor.role not in page.roles:
        return RedirectResponse(FIRST, 303, headers=HEADERS)
    seen = [other for other in PAGES if visitor.role in other.roles]
    sections = {section: [other for other in seen if other.section == section] for section in dict.fromkeys(p.section for p in seen)}
    response = renderer_of(request).page(request, page.template, page=page, visitor=visitor, sections=sections)
    services.sessions.renew(request, response, session)
    return response
