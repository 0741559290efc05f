"""Upstreams' secrets, written anew under the `SECRET_KEY` of now.

All in one transaction, beside running proxies: those that know both keys read either form, and the catalog's version tells
them to look. A second run finds nothing to do. A secret that no known key reads stops it before anything has changed.
"""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.catalog.vault import Vault
from app.errors import Conflict, UpstreamFailed
from app.ledger.audit_entries import SET_ANEW, record
from app.models import Upstream


@dataclass(frozen=True, slots=True)
class Rotated:
    """`written`: stored anew. `current`: that were under the new key already."""

    written: int
    current: int


async def rotate_secrets(session: AsyncSession, *, vault: Vault) -> Rotated:
    """Disabled upstreams' too. Raises `Conflict` with the names of those whose secrets can't be read."""
    stored = select(Upstream).where(Upstream.secret.is_not(None)).order_by(Upstream.id).with_for_update(key_share=True)
    current, written, unreadable = 0, 0, []
    for upstream in (await session.scalars(stored)).all():
        assert upstream.secret is not None
        secrets = [upstream.secret, *(upstream.more_secrets or ())]
        up_to_date = sum(map(vault.is_current, secrets))
        current += up_to_date
        if up_to_date == len(secrets):
            continue
        try:
            first, *more = [secret if vault.is_current(secret) else vault.encrypt(vault.decrypt(secret)) for secret in secrets]
        except UpstreamFailed:
            unreadable.append(upstream.name)
            continue
        upstream.secret, upstream.more_secrets = first, more or None
        written += len(secrets) - up_to_date
        await record(session, "upstream.rotate_secrets", "upstream", upstream.id, before=None, after={"encryption": SET_ANEW})
    if unreadable:
        raise Conflict(
            f"Nothing was changed: the secrets of {', '.join(map(repr, unreadable))} can't be read with SECRET_KEY or SECRET_KEY_OLD. "
            "Name the SECRET_KEY that they were stored with in SECRET_KEY_OLD, or set or forget these upstreams' `api_key` first.",
            code="secret_unreadable",
        )
    return Rotated(written, current)
