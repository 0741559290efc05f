"""Upstreams and their routes. The secret goes in, and only its last four characters come out.

DELETE disables: the upstream serves nothing from then on, while logs keep its name and PATCH can bring it back. Its name
stays taken, and its secret stays stored, until PATCH changes them.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.catalog import checks
from app.catalog.addresses import parse_base_url
from app.catalog.groups import checked_tags
from app.catalog.model_routes import Models, parse_models, replace_routes, routes_of, shown
from app.catalog.vault import Vault
from app.catalog.violations import explained
from app.errors import NotFound, UnacceptableValue
from app.ledger.audit_entries import SET_ANEW, picked, record_change
from app.models import ModelRoute, Upstream
from app.paging import Page, cut, decode

LISTING = "upstreams"
PRIORITY, WEIGHT = 0, 1
ORDER = frozenset({"priority", "weight"})
LARGEST_PRIORITY, LARGEST_WEIGHT = 1000, 1000
LONGEST_SECRET = 4096
HINT_LENGTH = 4
MOST_SECRETS = 50
"""Beside the first."""
SECRETS = ("api_key", "api_keys")
AUDITED = (
    "name",
    "base_url",
    "auth",
    "api_key_hints",
    "is_local",
    "stream_usage",
    "client_gone",
    "tags",
    "protocols",
    "models",
    "priority",
    "weight",
    "disabled",
)


@dataclass(frozen=True, slots=True)
class UpstreamRoutes:
    """`models`: a list where every name goes on as it came, else `{name: the upstream's own}`. `priority`, `weight`: of its first
    route; those of each are in `catalog.routes`."""

    id: int
    name: str
    base_url: str
    auth: str
    has_api_key: bool
    api_key_hint: str | None
    api_key_hints: list[str | None]
    is_local: bool
    stream_usage: str
    client_gone: str
    tags: list[str] | None
    protocols: list[str] | None
    first_byte_within: float | None
    models: list[str] | dict[str, str]
    priority: int
    weight: int
    disabled: bool
    disabled_at: datetime | None
    created_at: datetime

    @classmethod
    def of(cls, upstream: Upstream, routes: Sequence[ModelRoute]) -> Self:
        return cls(
            id=upstream.id,
            name=upstream.name,
            base_url=upstream.base_url,
            auth=upstream.auth,
            has_api_key=upstream.secret is not None,
            api_key_hint=upstream.secret_hint,
            api_key_hints=[*([upstream.secret_hint] if upstream.secret else ()), *(upstream.more_secret_hints or ())],
            is_local=upstream.is_local,
            stream_usage=upstream.stream_usage,
            client_gone=upstream.client_gone,
            tags=upstream.tags,
            protocols=upstream.protocols,
            first_byte_within=upstream.first_byte_within,
            models=shown(routes),
            priority=routes[0].priority if routes else PRIORITY,
            weight=routes[0].weight if routes else WEIGHT,
            disabled=upstream.disabled_at is not None,
            disabled_at=upstream.disabled_at,
            created_at=upstream.created_at,
        )


async def create_upstream(
    session: AsyncSession,
    *,
    vault: Vault,
    name: str,
    base_url: str,
    models: Models,
    priority: int = PRIORITY,
    weight: int = WEIGHT,
    allow_link_local: bool = False,
    **settings: Any,
) -> UpstreamRoutes:
    """`settings`: `api_key`, `api_keys`, `auth`, `protocols`, `is_local`, `stream_usage`, `client_gone`, `tags`,
    `first_byte_within`. `allow_link_local`: see `metadata_addresses`. Raises `Conflict` for a name that is taken."""
    upstream = Upstream()
    _apply(upstream, {"name": name, "base_url": base_url, **settings}, vault=vault, allow_link_local=allow_link_local)
    routes = parse_models(models)
    check_order(priority, weight)
    session.add(upstream)
    with explained(table="upstream", taken=_taken(name)):
        await session.flush()
    await replace_routes(session, upstream_id=upstream.id, models=routes, priority=priority, weight=weight, anew=ORDER)
    made = await get_upstream(session, upstream_id=upstream.id)
    await record_change(session, "upstream", made.id, before=None, after=picked(made, AUDITED))
    return made


async def get_upstream(session: AsyncSession, *, upstream_id: int) -> UpstreamRoutes:
    upstream = await find_upstream(session, upstream_id=upstream_id)
    return UpstreamRoutes.of(upstream, await routes_of(session, upstream_ids=[upstream_id]))


async def list_upstreams(session: AsyncSession, *, limit: int, cursor: str | None) -> Page[UpstreamRoutes]:
    """By id, ascending; disabled ones too."""
    query = select(Upstream).order_by(Upstream.id).limit(limit + 1)
    if (after := decode(LISTING, cursor, int)) is not None:
        query = query.where(Upstream.id > after)
    upstreams = (await session.scalars(query)).all()
    routes = defaultdict(list)
    for route in await routes_of(session, upstream_ids=[upstream.id for upstream in upstreams]):
        routes[route.upstream_id].append(route)
    return cut(
        [UpstreamRoutes.of(upstream, routes[upstream.id]) for upstream in upstreams],
        limit=limit,
        listing=LISTING,
        key=lambda upstream: upstream.id,
    )


async def update_upstream(
    session: AsyncSession, *, vault: Vault, upstream_id: int, changes: Mapping[str, Any], allow_link_local: bool = False
) -> UpstreamRoutes:
    """What is absent stays. `api_key` None forgets the secret; `models` replaces all of them."""
    upstream = await find_upstream(session, upstream_id=upstream_id, lock=True)
    before = picked(await get_upstream(session, upstream_id=upstream_id), AUDITED)
    _apply(upstream, changes, vault=vault, allow_link_local=allow_link_local)
    with explained(table="upstream", taken=_taken(upstream.name)):
        await session.flush()
    if changes.keys() & {"models", "priority", "weight"}:
        await _change_routes(session, upstream_id=upstream_id, changes=changes)
    changed = await get_upstream(session, upstream_id=upstream_id)
    secrets = {name: SET_ANEW for name in SECRETS if changes.get(name)}
    await record_change(session, "upstream", upstream_id, before=before, after=picked(changed, AUDITED) | secrets)
    return changed


async def find_upstream(session: AsyncSession, *, upstream_id: int, lock: bool = False) -> Upstream:
    query = select(Upstream).where(Upstream.id == upstream_id)
    if lock:
        query = query.with_for_update(key_share=True)
    upstream = (await session.scalars(query)).one_or_none()
    if upstream is None:
        raise NotFound(f"There is no upstream {upstream_id}.", code="upstream_not_found")
    return upstream


async def _change_routes(session: AsyncSession, *, upstream_id: int, changes: Mapping[str, Any]) -> None:
    current = await routes_of(session, upstream_ids=[upstream_id])
    models = parse_models(changes["models"]) if "models" in changes else {route.pattern: route.upstream_model for route in current}
    priority = changes.get("priority", current[0].priority if current else PRIORITY)
    weight = changes.get("weight", current[0].weight if current else WEIGHT)
    check_order(priority, weight)
    if models:
        anew = ORDER & changes.keys()
        await replace_routes(session, upstream_id=upstream_id, models=models, priority=priority, weight=weight, anew=anew)


def _apply(upstream: Upstream, values: Mapping[str, Any], *, vault: Vault, allow_link_local: bool) -> None:
    if "name" in values:
        upstream.name = checks.text("name", values["name"], longest=100)
    if "base_url" in values:
        try:
            upstream.base_url = parse_base_url(values["base_url"], allow_link_local=allow_link_local)
        except ValueError as invalid:
            raise UnacceptableValue(f"base_url: {invalid}") from None
    _apply_secrets(upstream, values, vault=vault)
    for plain in ("auth", "is_local", "stream_usage", "client_gone", "first_byte_within"):
        if plain in values:
            setattr(upstream, plain, values[plain])
    _apply_lists(upstream, values)
    if values.get("disabled") is False:
        upstream.disabled_at = None
    elif values.get("disabled") and upstream.disabled_at is None:
        upstream.disabled_at = func.now()


def _apply_lists(upstream: Upstream, values: Mapping[str, Any]) -> None:
    if "protocols" in values:
        upstream.protocols = None if values["protocols"] is None else sorted(set(values["protocols"]))
    if "tags" in values:
        upstream.tags = None if values["tags"] is None else checked_tags("tags", values["tags"])


def _apply_secrets(upstream: Upstream, values: Mapping[str, Any], *, vault: Vault) -> None:
    if "api_key" in values:
        _set_secret(upstream, values["api_key"], vault=vault)
    if "api_keys" in values:
        _set_more_secrets(upstream, values["api_keys"] or [], vault=vault)
    if upstream.more_secrets and upstream.secret is None:
        raise UnacceptableValue("api_keys: come beside `api_key`. Give the first of them as `api_key`, or forget `api_keys` too.")


def _set_secret(upstream: Upstream, secret: str | None, *, vault: Vault) -> None:
    if secret is None:
        upstream.secret, upstream.secret_hint = None, None
        return
    upstream.secret, upstream.secret_hint = _stored("api_key", secret, vault=vault)


def _set_more_secrets(upstream: Upstream, secrets: Sequence[str], *, vault: Vault) -> None:
    if len(secrets) > MOST_SECRETS:
        raise UnacceptableValue(f"api_keys: must be {MOST_SECRETS} at most")
    stored = [_stored("api_keys", secret, vault=vault) for secret in secrets]
    upstream.more_secrets = [encrypted for encrypted, _ in stored] or None
    upstream.more_secret_hints = [hint for _, hint in stored] or None


def _stored(field: str, secret: str, *, vault: Vault) -> tuple[bytes, str | None]:
    """The secret encrypted, and its hint."""
    if not 1 <= len(secret) <= LONGEST_SECRET or not secret.isascii() or not secret.isprintable() or secret != secret.strip():
        raise UnacceptableValue(f"{field}: must have 1 to {LONGEST_SECRET} ASCII characters, without space or line breaks at its ends")
    # four characters of a short secret would give much of it away
    return vault.encrypt(secret), secret[-HINT_LENGTH:] if len(secret) >= 4 * HINT_LENGTH else None


def check_order(priority: int, weight: int) -> None:
    if not 0 <= priority <= LARGEST_PRIORITY:
        raise UnacceptableValue(f"priority: must be from 0 (tried first) to {LARGEST_PRIORITY}")
    if not 1 <= weight <= LARGEST_WEIGHT:
        raise UnacceptableValue(f"weight: must be from 1 to {LARGEST_WEIGHT}")


def _taken(name: str) -> str:
    change = "Change that one (PATCH, or 'billing-proxy upstreams set')"
    return f"There is an upstream {name!r} already, maybe a disabled one. {change}, or take another name."
