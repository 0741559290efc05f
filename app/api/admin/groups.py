"""`/admin/groups`."""

from typing import Annotated

from fastapi import Path
from pydantic import MISSING, Field

from app.api.admin.keys import Count, Models, PeriodLimit
from app.api.admin.shapes import PageOf, admin_router
from app.api.dependencies import ServicesOf
from app.api.fields import Answer, Cursor, Limit, Moment, Money, MoneyIn, Request
from app.api.problems import documented
from app.catalog.groups import create_group, delete_group, get_group, list_groups, update_group

router = admin_router("/groups", tag="Groups")

Name = Annotated[str, Field(min_length=1, max_length=100, description="Unique.", examples=["vip"])]
GroupName = Annotated[str, Path(min_length=1, max_length=100, examples=["vip"])]
Multiplier = Annotated[MoneyIn, Field(description="Of all prices: 0.8 is a fifth off. At most 6 decimals.", examples=["0.8"])]
ModelMultipliers = Annotated[
    dict[str, Multiplier],
    Field(max_length=1000, description="In its place for these models, or prefixes that end in `*`.", examples=[{"gpt-5*": "1.2"}]),
]
Tags = Annotated[list[str], Field(max_length=20, description="Only upstreams with one of these tags.", examples=[["premium"]])]


class NewGroup(Request):
    name: Name
    multiplier: Multiplier = Field(default="1", validate_default=True)
    model_multipliers: ModelMultipliers | None = None
    models: Models | None = None
    upstream_tags: Tags | None = None
    rpm: Count | None = Field(default=None, description="Requests a minute, of each user.")
    tpm: Count | None = Field(default=None, description="Tokens a minute, of each user.")
    max_concurrency: Count | None = Field(default=None, description="Calls in flight, of each user.")
    daily_limit: PeriodLimit | None = None
    monthly_limit: PeriodLimit | None = None


class GroupChanges(Request):
    """Absent: unchanged. null: not limited any more."""

    name: Name | MISSING = MISSING
    multiplier: Multiplier | MISSING = MISSING
    model_multipliers: ModelMultipliers | MISSING | None = MISSING
    models: Models | MISSING | None = MISSING
    upstream_tags: Tags | MISSING | None = MISSING
    rpm: Count | MISSING | None = MISSING
    tpm: Count | MISSING | None = MISSING
    max_concurrency: Count | MISSING | None = MISSING
    daily_limit: PeriodLimit | MISSING | None = MISSING
    monthly_limit: PeriodLimit | MISSING | None = MISSING


class GroupAnswer(Answer):
    id: int = Field(examples=[1])
    name: str = Field(examples=["vip"])
    multiplier: Money = Field(examples=["0.800000"])
    model_multipliers: dict[str, str] | None = Field(examples=[{"gpt-5*": "1.2"}])
    models: list[str] | None
    upstream_tags: list[str] | None
    rpm: int | None
    tpm: int | None
    max_concurrency: int | None
    daily_limit: Money | None = Field(examples=["5.0000000000"])
    monthly_limit: Money | None = Field(examples=["50.0000000000"])
    created_at: Moment


@router.post("", status_code=201, summary="Create a group", responses=documented(409))
async def create(services: ServicesOf, body: NewGroup) -> GroupAnswer:
    """Users and keys are put into it with `group`."""
    async with services.changing_callers() as session:
        group = await create_group(session, name=body.name, values=body.model_dump(exclude={"name"}))
    return GroupAnswer.model_validate(group)


@router.get("", summary="List groups")
async def list_all(services: ServicesOf, limit: Limit = 100, cursor: Cursor = None) -> PageOf[GroupAnswer]:
    """By name."""
    async with services.database.reading() as session:
        page = await list_groups(session, limit=limit, cursor=cursor)
    return PageOf[GroupAnswer].of(page)


@router.get("/{name:path}", summary="Show a group", responses=documented(404))
async def show(services: ServicesOf, name: GroupName) -> GroupAnswer:
    async with services.database.reading() as session:
        return GroupAnswer.model_validate(await get_group(session, name=name))


@router.patch("/{name:path}", summary="Change a group", responses=documented(404, 409))
async def change(services: ServicesOf, name: GroupName, body: GroupChanges) -> GroupAnswer:
    """Holds for new calls; a call in flight is billed as it was held."""
    async with services.changing_callers() as session:
        group = await update_group(session, name=name, changes=body.model_dump())
    return GroupAnswer.model_validate(group)


@router.delete("/{name:path}", status_code=204, summary="Delete a group", responses=documented(404, 409))
async def delete(services: ServicesOf, name: GroupName) -> None:
    """409 while users or keys are in it."""
    async with services.changing_callers() as session:
        await delete_group(session, name=name)
