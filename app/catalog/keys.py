"""Platform keys: their secret, shown once and stored as a hash, what they may do, and what they have used.

A key that the platform made has no policy and no meter until it is first used or changed; it is shown without limits.
"""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Self

from sqlalchemy import Select, delete, exists, func, or_, select, true, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.catalog import checks
from app.catalog.groups import group_id_of
from app.catalog.violations import explained
from app.errors import NotFound
from app.ledger.audit_entries import picked, record, record_change
from app.models import KeyMeter, KeyPolicy, PlatformApiKey, RetiredSecret, SpendGroup, User
from app.paging import Page, cut, decode

LISTING = "keys"
PREFIX_LENGTH = 10
AUDITED = (
    "name",
    "scope",
    "models",
    "allowed_ips",
    "expires_at",
    "group",
    "spend_limit",
    "daily_limit",
    "monthly_limit",
    "rpm",
    "tpm",
    "max_concurrency",
    "disabled",
)
_TAKEN = "Another key has this name or secret."


@dataclass(frozen=True, slots=True)
class Key:
    """`models` and `allowed_ips` None: all. Limits None: none of the key's own. `old_secret_until`: when the last of the
    secrets that were replaced stops working; None where none works any more."""

    id: int
    user_id: str | None
    name: str | None
    key_prefix: str | None
    scope: str
    models: list[str] | None
    allowed_ips: list[str] | None
    expires_at: datetime | None
    group: str | None
    spend_limit: Decimal | None
    daily_limit: Decimal | None
    monthly_limit: Decimal | None
    rpm: int | None
    tpm: int | None
    max_concurrency: int | None
    spent: Decimal
    held: Decimal
    in_flight: int
    disabled: bool
    disabled_at: datetime | None
    created_at: datetime | None
    old_secret_until: datetime | None

    @classmethod
    def of(
        cls, key: PlatformApiKey, policy: KeyPolicy | None, meter: KeyMeter | None, group: str | None, old_secret_until: datetime | None
    ) -> Self:
        return cls(
            id=key.id,
            user_id=key.user_id,
            name=key.name,
            key_prefix=key.key_prefix,
            scope=policy.scope if policy else "key",
            models=policy.models if policy else None,
            allowed_ips=policy.allowed_ips if policy else None,
            expires_at=policy.expires_at if policy else None,
            group=group,
            spend_limit=policy.spend_limit if policy else None,
            daily_limit=policy.daily_limit if policy else None,
            monthly_limit=policy.monthly_limit if policy else None,
            rpm=policy.rpm if policy else None,
            tpm=policy.tpm if policy else None,
            max_concurrency=policy.max_concurrency if policy else None,
            spent=meter.spent if meter else Decimal(0),
            held=meter.held if meter else Decimal(0),
            in_flight=meter.in_flight if meter else 0,
            disabled=policy is not None and policy.disabled_at is not None,
            disabled_at=policy.disabled_at if policy else None,
            created_at=policy.created_at if policy else None,
            old_secret_until=old_secret_until,
        )


async def create_key(session: AsyncSession, *, user_id: str, name: str | None, policy: Mapping[str, Any]) -> tuple[Key, str]:
    """The key and its secret, which nobody can read again. `policy`: columns of `key_policy`, and `group` by its name."""
    secret, stored = _new_secret()
    return await _insert_key(session, user_id=user_id, name=name, stored=stored, policy=policy), secret


async def adopt_key(
    session: AsyncSession, *, user_id: str, name: str | None, key_hash: str, key_prefix: str, policy: Mapping[str, Any]
) -> Key:
    """One that was made elsewhere, and goes on working. `key_hash`: SHA-256 in hexadecimal of what clients present."""
    stored = {"key_hash": key_hash, "key_prefix": key_prefix}
    return await _insert_key(session, user_id=user_id, name=name, stored=stored, policy=policy)


async def _insert_key(
    session: AsyncSession, *, user_id: str, name: str | None, stored: Mapping[str, str], policy: Mapping[str, Any]
) -> Key:
    if not (await session.execute(select(exists().where(User.id == user_id)))).scalar_one():
        raise NotFound(f"There is no user {user_id!r}: create the user first.", code="user_not_found")
    values = {"user_id": user_id, **stored, **({} if name is None else {"name": _checked_name(name)})}
    with explained(table="platform_api_key", taken=_TAKEN):
        key_id = (await session.execute(insert(PlatformApiKey).values(values).returning(PlatformApiKey.id))).scalar_one()
    await session.execute(insert(KeyPolicy).values(key_id=key_id, **await _checked_policy(session, policy)))
    await session.execute(insert(KeyMeter).values(key_id=key_id))
    key = await get_key(session, key_id=key_id)
    await record_change(session, "key", key_id, before=None, after=picked(key, ("user_id", "key_prefix", *AUDITED)))
    return key


async def get_key(session: AsyncSession, *, key_id: int) -> Key:
    query = _keys().where(PlatformApiKey.id == key_id)
    row = (await session.execute(query, execution_options={"populate_existing": True})).one_or_none()
    if row is None:
        raise NotFound(f"There is no key {key_id}.", code="key_not_found")
    return Key.of(*row)


async def list_keys(session: AsyncSession, *, user_id: str | None, limit: int, cursor: str | None, q: str | None = None) -> Page[Key]:
    """Newest first; those that have `q` in their user's id or their name, or begin with it."""
    query = _keys().order_by(PlatformApiKey.id.desc()).limit(limit + 1)
    if user_id is not None:
        query = query.where(PlatformApiKey.user_id == user_id)
    if q is not None:
        contains = [column.icontains(q, autoescape=True) for column in (PlatformApiKey.user_id, PlatformApiKey.name)]
        query = query.where(or_(*contains, PlatformApiKey.key_prefix.startswith(q[:PREFIX_LENGTH], autoescape=True)))
    if (before := decode(LISTING, cursor, int)) is not None:
        query = query.where(PlatformApiKey.id < before)
    keys = [Key.of(*row) for row in await session.execute(query)]
    return cut(keys, limit=limit, listing=LISTING, key=lambda key: key.id)


async def update_key(session: AsyncSession, *, key_id: int, changes: Mapping[str, Any]) -> Key:
    """`changes`: `name`, `disabled`, `group` and columns of `key_policy`; what is absent stays, None lifts a limit."""
    await session.execute(select(PlatformApiKey.id).where(PlatformApiKey.id == key_id).with_for_update(key_share=True))
    before = await get_key(session, key_id=key_id)
    if "name" in changes:
        name = None if changes["name"] is None else _checked_name(changes["name"])
        with explained(table="platform_api_key", taken=_TAKEN):
            await session.execute(update(PlatformApiKey).where(PlatformApiKey.id == key_id).values(name=name))
    given = {column: value for column, value in changes.items() if column not in ("name", "disabled")}
    policy: dict[str, Any] = await _checked_policy(session, given)
    if "disabled" in changes:
        policy["disabled_at"] = func.coalesce(KeyPolicy.disabled_at, func.now()) if changes["disabled"] else None
    if policy:
        await session.execute(insert(KeyPolicy).values(key_id=key_id).on_conflict_do_nothing())
        await session.execute(update(KeyPolicy).where(KeyPolicy.key_id == key_id).values(policy))
    after = await get_key(session, key_id=key_id)
    await record_change(session, "key", key_id, before=picked(before, AUDITED), after=picked(after, AUDITED))
    return after


async def rotate_key(session: AsyncSession, *, key_id: int, overlap: timedelta = timedelta(0)) -> tuple[Key, str]:
    """A new secret in place of the old one, which goes on working for `overlap`. Without one, it and all that were replaced
    before it stop working when this commits."""
    locked = select(PlatformApiKey.key_hash, PlatformApiKey.key_prefix).where(PlatformApiKey.id == key_id)
    old_hash, old_prefix = (await session.execute(locked.with_for_update(key_share=True))).one_or_none() or (None, None)
    out_of_use = RetiredSecret.valid_until <= func.clock_timestamp() if overlap else true()
    await session.execute(delete(RetiredSecret).where(RetiredSecret.key_id == key_id, out_of_use))
    if overlap and old_hash is not None:
        retired = insert(RetiredSecret).values(key_hash=old_hash, key_id=key_id, valid_until=func.clock_timestamp() + overlap)
        await session.execute(
            retired.on_conflict_do_update(
                index_elements=[RetiredSecret.key_hash],
                set_={"key_id": retired.excluded.key_id, "valid_until": retired.excluded.valid_until},
            )
        )
    secret, stored = _new_secret()
    await session.execute(update(PlatformApiKey).where(PlatformApiKey.id == key_id).values(stored))
    key = await get_key(session, key_id=key_id)
    now = picked(key, ("key_prefix", "old_secret_until"))
    await record(session, "key.rotate", "key", key_id, before={"key_prefix": old_prefix}, after=now)
    return key, secret


def _keys() -> Select[PlatformApiKey, KeyPolicy, KeyMeter, str, datetime]:
    old_secret_until = select(func.max(RetiredSecret.valid_until)).where(
        RetiredSecret.key_id == PlatformApiKey.id, RetiredSecret.valid_until > func.clock_timestamp()
    )
    return (
        select(PlatformApiKey, KeyPolicy, KeyMeter, SpendGroup.name, old_secret_until.scalar_subquery())
        .outerjoin(KeyPolicy, KeyPolicy.key_id == PlatformApiKey.id)
        .outerjoin(KeyMeter, KeyMeter.key_id == PlatformApiKey.id)
        .outerjoin(SpendGroup, SpendGroup.id == KeyPolicy.group_id)
    )


def _new_secret() -> tuple[str, dict[str, str]]:
    secret = "sk-" + secrets.token_urlsafe(32)
    return secret, {"key_hash": hashlib.sha256(secret.encode()).hexdigest(), "key_prefix": secret[:PREFIX_LENGTH]}


def _checked_name(name: str) -> str:
    return checks.text("name", name, longest=255)


async def _checked_policy(session: AsyncSession, policy: Mapping[str, Any]) -> dict[str, Any]:
    checked = {column: None if value is None else _checked(column, value) for column, value in policy.items() if column != "group"}
    return checked | ({"group_id": await group_id_of(session, policy["group"])} if "group" in policy else {})


def _checked(column: str, value: Any) -> Any:
    match column:
        case "models":
            return checks.patterns(column, value)
        case "allowed_ips":
            return checks.networks(column, value)
        case "spend_limit" | "daily_limit" | "monthly_limit" | "rpm" | "tpm" | "max_concurrency":
            return checks.limit(column, value)
        case _:
            return value
