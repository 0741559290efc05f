"""What all routes of `/admin` have in common: who may use them, what they answer beyond success, and pages."""

from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar

from fastapi import APIRouter, Depends

from app.api.dependencies import require_admin
from app.api.fields import Answer
from app.api.problems import documented
from app.paging import Page

Shown = TypeVar("Shown", bound=Answer)


class _Router(APIRouter):
    def add_api_route(self, path: str, endpoint: Callable[..., Any], **how: Any) -> None:
        """A body may be unreadable, or too large."""
        if how.get("methods") and {"POST", "PUT", "PATCH"}.intersection(how["methods"]):
            how["responses"] = documented(400, 413) | (how.get("responses") or {})
        super().add_api_route(path, endpoint, **how)


def admin_router(path: str, *, tag: str, allows: Callable[..., Any] = require_admin) -> APIRouter:
    """Of `/admin{path}`: for operators, of whom viewers may GET, unless `allows` says otherwise."""
    return _Router(prefix=f"/admin{path}", tags=[tag], dependencies=[Depends(allows)], responses=documented(401, 403, 422, 429, 503))


class PageOf(Answer, Generic[Shown]):
    """`next_cursor` null: this is the last page."""

    data: list[Shown]
    next_cursor: str | None

    @classmethod
    def of(cls, page: Page[Any]) -> Self:
        return cls.model_validate({"data": page.rows, "next_cursor": page.next_cursor})
