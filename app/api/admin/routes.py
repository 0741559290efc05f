"""`/admin/routes`."""

from typing import Annotated

from fastapi import Query
from pydantic import MISSING, Field

from app.api.admin.shapes import PageOf, admin_router
from app.api.admin.upstreams import Priority, Weight
from app.api.dependencies import ServicesOf
from app.api.fields import LARGEST_INTEGER, Answer, Cursor, Limit, NumericId, Request, Search
from app.api.problems import documented
from app.catalog.routes import create_route, delete_route, get_route, list_routes, update_route

router = admin_router("/routes", tag="Upstreams")

UpstreamModel = Annotated[
    str, Field(min_length=1, max_length=255, description="The upstream's own name; null: as it came.", examples=["gpt-4o-2024-11-20"])
]
UpstreamId = Annotated[int, Field(ge=1, le=LARGEST_INTEGER, examples=[1])]


class NewRoute(Request):
    upstream_id: UpstreamId
    model: str = Field(min_length=1, max_length=255, description="A name, or a prefix that ends in `*`.", examples=["gpt-4o"])
    upstream_model: UpstreamModel | None = None
    priority: Priority = 0
    weight: Weight = 1


class RouteChanges(Request):
    """Absent: unchanged."""

    upstream_model: UpstreamModel | MISSING | None = MISSING
    priority: Priority | MISSING = MISSING
    weight: Weight | MISSING = MISSING


class RouteAnswer(Answer):
    id: int = Field(examples=[1])
    model: str = Field(examples=["gpt-4o"])
    upstream_id: int = Field(examples=[1])
    upstream: str = Field(description="Its name.", examples=["openai"])
    upstream_model: str | None = Field(examples=["gpt-4o-2024-11-20"])
    priority: int = Field(examples=[0])
    weight: int = Field(examples=[1])
    serves: bool = Field(description="false: its upstream is disabled.")


@router.post("", status_code=201, summary="Let an upstream serve one more model", responses=documented(404, 409))
async def create(services: ServicesOf, body: NewRoute) -> RouteAnswer:
    async with services.changing_catalog() as session:
        return RouteAnswer.model_validate(await create_route(session, **body.model_dump()))


@router.get("", summary="List routes")
async def list_all(
    services: ServicesOf,
    upstream_id: Annotated[int | None, Query(ge=1, le=LARGEST_INTEGER, description="Only this upstream's.")] = None,
    q: Search = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> PageOf[RouteAnswer]:
    """By id, ascending; those of disabled upstreams too."""
    async with services.database.reading() as session:
        return PageOf[RouteAnswer].of(await list_routes(session, upstream_id=upstream_id, q=q, limit=limit, cursor=cursor))


@router.get("/{route_id}", summary="Show a route", responses=documented(404))
async def show(services: ServicesOf, route_id: NumericId) -> RouteAnswer:
    async with services.database.reading() as session:
        return RouteAnswer.model_validate(await get_route(session, route_id=route_id))


@router.patch("/{route_id}", summary="Change a route", responses=documented(404))
async def change(services: ServicesOf, route_id: NumericId, body: RouteChanges) -> RouteAnswer:
    """Holds for new calls. The model's name stays: make another route for another name."""
    async with services.changing_catalog() as session:
        return RouteAnswer.model_validate(await update_route(session, route_id=route_id, changes=body.model_dump()))


@router.delete("/{route_id}", status_code=204, summary="Delete a route", responses=documented(404))
async def delete(services: ServicesOf, route_id: NumericId) -> None:
    """Calls in flight end as they do."""
    async with services.changing_catalog() as session:
        await delete_route(session, route_id=route_id)
