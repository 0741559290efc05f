"""Named tokens of operators: what people and programs that manage this service prove themselves with, beside `ADMIN_TOKEN`.

A token is 256 random bits, shown once; its SHA-256 is kept. It is looked up with each request, so that one that was disabled,
or has expired, is refused at its next request at every replica. Its name is what audit entries call its holder.
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

from sqlalchemy import func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.catalog import checks
from app.catalog.violations import explained
from app.errors import NotFound
from app.ledger.audit_entries import picked, record_change
from app.models import AdminToken
from app.paging import Page, cut, decode

LISTING = "tokens"
MARK = "adm-"
"""How tokens begin."""
PREFIX_LENGTH = 10
USE_TOLD = timedelta(minutes=1)
"""How old `last_used_at` grows before it is written again."""
AUDITED = ("role", "expires_at", "disabled")


@dataclass(frozen=True, slots=True)
class Operator:
    """Who manages: `actor` is what audit entries say. `role`: `admin`, or `viewer`, who changes nothing."""

    actor: str
    role: str


ROOT = Operator("root", "admin")
"""Whoever has `ADMIN_TOKEN`."""


@dataclass(frozen=True, slots=True)
class Token:
    id: int
    name: str
    role: str
    token_prefix: str
    expires_at: datetime | None
    disabled: bool
    disabled_at: datetime | None
    last_used_at: datetime | None
    created_at: datetime

    @classmethod
    def of(cls, token: AdminToken) -> Self:
        return cls(
            id=token.id,
            name=token.name,
            role=token.role,
            token_prefix=token.token_prefix,
            expires_at=token.expires_at,
            disabled=token.disabled_at is not None,
            disabled_at=token.disabled_at,
            last_used_at=token.last_used_at,
            created_at=token.created_at,
        )


async def create_token(session: AsyncSession, *, name: str, role: str, expires_at: datetime | None) -> tuple[Token, str]:
    """The token and its secret, which nobody can read again. Raises `Conflict` for a name that was ever taken."""
    checks.text("name", name, longest=100)
    secret = MARK + secrets.token_urlsafe(32)
    row = AdminToken(name=name, role=role, token_hash=_hash(secret), token_prefix=secret[:PREFIX_LENGTH], expires_at=expires_at)
    session.add(row)
    with explained(table="admin_token", taken=f"There is a token {name!r} already, maybe a disabled one. Take another name."):
        await session.flush()
    await session.refresh(row)
    token = Token.of(row)
    await record_change(session, "token", token.id, before=None, after=picked(token, ("name", "token_prefix", *AUDITED)))
    return token, secret


async def find_operator(session: AsyncSession, presented: str) -> Operator | None:
    """None for a token that is unknown, disabled or expired."""
    return await find_hashed(session, _hash(presented)) if presented.startswith(MARK) else None


async def find_hashed(session: AsyncSession, digest: str) -> Operator | None:
    """By the token's SHA-256, as sessions of browsers have it."""
    now = func.clock_timestamp()
    usable = select(AdminToken).where(
        AdminToken.token_hash == digest, AdminToken.disabled_at.is_(None), or_(AdminToken.expires_at.is_(None), AdminToken.expires_at > now)
    )
    token = (await session.scalars(usable)).one_or_none()
    if token is None or not hmac.compare_digest(token.token_hash, digest):
        return None
    stale = or_(AdminToken.last_used_at.is_(None), AdminToken.last_used_at < now - USE_TOLD)
    await session.execute(update(AdminToken).where(AdminToken.id == token.id, stale).values(last_used_at=now))
    return Operator(f"token:{token.name}", token.role)


async def list_tokens(session: AsyncSession, *, limit: int, cursor: str | None) -> Page[Token]:
    """By id, ascending; disabled ones too."""
    query = select(AdminToken).order_by(AdminToken.id).limit(limit + 1)
    if (after := decode(LISTING, cursor, int)) is not None:
        query = query.where(AdminToken.id > after)
    tokens = [Token.of(row) for row in (await session.scalars(query)).all()]
    return cut(tokens, limit=limit, listing=LISTING, key=lambda token: token.id)


async def get_token(session: AsyncSession, *, token_id: int) -> Token:
    return Token.of(await _find(session, token_id))


async def update_token(session: AsyncSession, *, token_id: int, changes: Mapping[str, Any]) -> Token:
    """`changes`: `role`, `expires_at`, `disabled`; what is absent stays. `disabled` keeps the first time."""
    row = await _find(session, token_id, lock=True)
    before = picked(Token.of(row), AUDITED)
    if "role" in changes:
        row.role = changes["role"]
    if "expires_at" in changes:
        row.expires_at = changes["expires_at"]
    if changes.get("disabled") is False:
        row.disabled_at = None
    elif changes.get("disabled") and row.disabled_at is None:
        row.disabled_at = func.now()
    await session.flush()
    await session.refresh(row)
    token = Token.of(row)
    await record_change(session, "token", token.id, before=before, after=picked(token, AUDITED))
    return token


async def _find(session: AsyncSession, token_id: int, *, lock: bool = False) -> AdminToken:
    query = select(AdminToken).where(AdminToken.id == token_id)
    row = (await session.scalars(query.with_for_update() if lock else query)).one_or_none()
    if row is None:
        raise NotFound(f"There is no token {token_id}.", code="token_not_found")
    return row


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
