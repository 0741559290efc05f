"""`/admin/audit`."""

from typing import Annotated, Any

from fastapi import Query
from pydantic import Field

from app.api.admin.shapes import PageOf, admin_router
from app.api.dependencies import ServicesOf
from app.api.fields import Answer, Moment, MomentIn, Request, Text
from app.reports.audit_entries import EntryFilters, list_audit_entries

router = admin_router("/audit", tag="Operators")


class EntryQuery(Request):
    """All that is given must fit. A parameter that isn't known is refused."""

    actor: Text | None = Field(
        default=None,
        description="`root` (who has `ADMIN_TOKEN`), `token:` and its name, `key:` and its id, `cli:` and the system's user, or `start`.",
    )
    action: Text | None = Field(default=None, description="As in `key.rotate`.")
    object_kind: Text | None = Field(default=None, description="As in `user`.")
    object_id: Text | None = Field(default=None, description="The id of what was changed; a price's and a model's is its name.")
    at_from: MomentIn | None = Field(default=None, description="Inclusive. ISO 8601; without a zone it is UTC. Write `+` as `%2B`.")
    at_to: MomentIn | None = Field(default=None, description="Exclusive.")
    limit: int = Field(default=100, ge=1, le=500, description="Rows on a page.")
    cursor: str | None = Field(default=None, max_length=1000, description="`next_cursor` of the page before.")

    def filters(self) -> EntryFilters:
        return EntryFilters(**self.model_dump(exclude={"limit", "cursor"}))


class EntryAnswer(Answer):
    """`before` null: it was made; `after` null: it is gone; else what differs."""

    id: int = Field(examples=[1])
    at: Moment
    actor: str = Field(examples=["token:finance"])
    action: str = Field(examples=["user.change"])
    object_kind: str = Field(examples=["user"])
    object_id: str = Field(examples=["alice"])
    before: dict[str, Any] | None = Field(examples=[{"credit_limit": "0.0000"}])
    after: dict[str, Any] | None = Field(examples=[{"credit_limit": "50.0000"}])


@router.get("", summary="List who changed what")
async def list_all(services: ServicesOf, query: Annotated[EntryQuery, Query()]) -> PageOf[EntryAnswer]:
    """Newest first. Secrets are in none of them."""
    async with services.database.reading() as session:
        page = await list_audit_entries(session, filters=query.filters(), limit=query.limit, cursor=query.cursor)
    return PageOf[EntryAnswer].of(page)
