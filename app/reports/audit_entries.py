"""Who changed what: the audit entries, for operators."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.models import AuditEntry
from app.paging import Page, cut, decode

LISTING = "audit"


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryFilters:
    """`at_from` is inclusive, `at_to` exclusive, both with a zone. None: not asked for."""

    actor: str | None = None
    action: str | None = None
    object_kind: str | None = None
    object_id: str | None = None
    at_from: datetime | None = None
    at_to: datetime | None = None


async def list_audit_entries(session: AsyncSession, *, filters: EntryFilters, limit: int, cursor: str | None) -> Page[AuditEntry]:
    """Newest first."""
    query = select(AuditEntry).order_by(AuditEntry.id.desc()).limit(limit + 1)
    for name in ("actor", "action", "object_kind", "object_id"):
        if (wanted := getattr(filters, name)) is not None:
            query = query.where(getattr(AuditEntry, name) == wanted)
    if filters.at_from is not None:
        query = query.where(AuditEntry.at >= filters.at_from)
    if filters.at_to is not None:
        query = query.where(AuditEntry.at < filters.at_to)
    if (before := decode(LISTING, cursor, int)) is not None:
        query = query.where(AuditEntry.id < before)
    entries = (await session.scalars(query)).all()
    return cut(entries, limit=limit, listing=LISTING, key=lambda entry: entry.id)
