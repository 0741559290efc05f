"""`/admin/keys`."""

from datetime import timedelta
from typing import Annotated, Literal

from fastapi import Query
from pydantic import MISSING, Field

from app.api.admin.shapes import PageOf, admin_router
from app.api.dependencies import ServicesOf
from app.api.fields import LARGEST_INTEGER, Answer, Cursor, Limit, Moment, MomentIn, Money, MoneyIn, NumericId, Request, Search, Text
from app.api.problems import documented
from app.catalog.keys import create_key, get_key, list_keys, rotate_key, update_key

router = admin_router("/keys", tag="Keys")

Name = Annotated[str, Field(min_length=1, max_length=255, examples=["laptop"])]
Models = Annotated[
    list[str], Field(max_length=1000, description="Names, or prefixes that end in `*`.", examples=[["gpt-4o-mini", "openai/*"]])
]
ExpiresAt = Annotated[MomentIn, Field(description="ISO 8601; without a zone it is UTC.", examples=["2030-01-01T00:00:00Z"])]
SpendLimit = Annotated[MoneyIn, Field(description="What the key may spend in total.", examples=["25.00"])]
PeriodLimit = Annotated[MoneyIn, Field(description="What may be spent in a day, or a month, of `LOG_TIME_ZONE`.", examples=["5.00"])]
Group = Annotated[str, Field(min_length=1, max_length=100, examples=["vip"])]
Count = Annotated[int, Field(ge=1, le=LARGEST_INTEGER, strict=True, examples=[60])]
LONGEST_OVERLAP = 90 * 24 * 3600
"""Seconds."""
AllowedIps = Annotated[list[str], Field(max_length=1000, description="Addresses and CIDR networks.", examples=[["10.0.0.0/8", "::1"]])]
Scope = Annotated[Literal["key", "account"], Field(description="Whose rows the key sees in `/logs`.", examples=["key"])]


class NewKey(Request):
    """What is left out, or null, is not limited."""

    user_id: Text = Field(min_length=1, max_length=50, examples=["alice"])
    name: Name | None = None
    models: Models | None = None
    expires_at: ExpiresAt | None = None
    group: Group | None = Field(default=None, description="Whose prices and models hold, in place of its user's group.")
    spend_limit: SpendLimit | None = None
    daily_limit: PeriodLimit | None = None
    monthly_limit: PeriodLimit | None = None
    rpm: Count | None = Field(default=None, description="Requests a minute.")
    tpm: Count | None = Field(default=None, description="Tokens a minute.")
    max_concurrency: Count | None = Field(default=None, description="Calls in flight.")
    allowed_ips: AllowedIps | None = None
    scope: Scope = "key"


class KeyChanges(Request):
    """Absent: unchanged. null: not limited any more."""

    name: Name | MISSING | None = MISSING
    models: Models | MISSING | None = MISSING
    expires_at: ExpiresAt | MISSING | None = MISSING
    group: Group | MISSING | None = MISSING
    spend_limit: SpendLimit | MISSING | None = MISSING
    daily_limit: PeriodLimit | MISSING | None = MISSING
    monthly_limit: PeriodLimit | MISSING | None = MISSING
    rpm: Count | MISSING | None = MISSING
    tpm: Count | MISSING | None = MISSING
    max_concurrency: Count | MISSING | None = MISSING
    allowed_ips: AllowedIps | MISSING | None = MISSING
    scope: Scope | MISSING = MISSING
    disabled: Annotated[bool, Field(examples=[False])] | MISSING = MISSING


class Rotation(Request):
    overlap_seconds: int = Field(
        default=0, ge=0, le=LONGEST_OVERLAP, strict=True, description="For how long the old secret works too.", examples=[3600]
    )


class KeyAnswer(Answer):
    id: int = Field(examples=[1])
    user_id: str | None = Field(examples=["alice"])
    name: str | None = Field(examples=["laptop"])
    key_prefix: str | None = Field(description="The first characters of the key.", examples=["sk-Zk3v9Qa"])
    scope: str = Field(examples=["key"])
    models: list[str] | None
    allowed_ips: list[str] | None
    expires_at: Moment | None
    group: str | None = Field(examples=["vip"])
    spend_limit: Money | None = Field(examples=["25.0000000000"])
    daily_limit: Money | None = Field(description="In a day of `LOG_TIME_ZONE`.", examples=["5.0000000000"])
    monthly_limit: Money | None = Field(examples=["50.0000000000"])
    rpm: int | None
    tpm: int | None
    max_concurrency: int | None
    spent: Money = Field(description="The exact charges of the key's calls.", examples=["0.4000120000"])
    held: Money = Field(description="The ceilings of its calls in flight.", examples=["0.0000000000"])
    in_flight: int = Field(examples=[0])
    disabled: bool
    disabled_at: Moment | None
    created_at: Moment | None
    old_secret_until: Moment | None = Field(description="Until when a secret that was replaced works too.", examples=[None])


class KeyWithSecret(KeyAnswer):
    key: str = Field(description="Shown this once: only its hash is kept.", examples=["sk-Zk3v9Qa7…"])


@router.post("", status_code=201, summary="Create a key", responses=documented(404, 409))
async def create(services: ServicesOf, body: NewKey) -> KeyWithSecret:
    """The answer holds the key itself, which is shown this once."""
    policy = body.model_dump(exclude={"user_id", "name"})
    async with services.changing_callers() as session:
        key, secret = await create_key(session, user_id=body.user_id, name=body.name, policy=policy)
    return _with_secret(key, secret)


@router.get("", summary="List keys")
async def list_all(
    services: ServicesOf,
    user_id: Annotated[Text | None, Query(description="Only this user's.")] = None,
    q: Annotated[Search, Query(description="Only those that have this in their user's id or their name, or begin with it.")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> PageOf[KeyAnswer]:
    """Newest first; disabled keys too."""
    async with services.database.reading() as session:
        page = await list_keys(session, user_id=user_id, q=q, limit=limit, cursor=cursor)
    return PageOf[KeyAnswer].of(page)


@router.get("/{key_id}", summary="Show a key with its limits and use", responses=documented(404))
async def show(services: ServicesOf, key_id: NumericId) -> KeyAnswer:
    async with services.database.reading() as session:
        return KeyAnswer.model_validate(await get_key(session, key_id=key_id))


@router.patch("/{key_id}", summary="Change a key", responses=documented(404, 409))
async def change(services: ServicesOf, key_id: NumericId, body: KeyChanges) -> KeyAnswer:
    """`"disabled": false` brings a deleted key back."""
    async with services.changing_callers() as session:
        key = await update_key(session, key_id=key_id, changes=body.model_dump())
    return KeyAnswer.model_validate(key)


@router.delete("/{key_id}", summary="Disable a key", responses=documented(404))
async def disable(services: ServicesOf, key_id: NumericId) -> KeyAnswer:
    """New calls with it are refused at once, calls in flight are settled. Its rows stay."""
    async with services.changing_callers() as session:
        key = await update_key(session, key_id=key_id, changes={"disabled": True})
    return KeyAnswer.model_validate(key)


@router.post("/{key_id}/rotate", summary="Give a key a new secret", responses=documented(404))
async def rotate(services: ServicesOf, key_id: NumericId, body: Rotation | None = None) -> KeyWithSecret:
    """The new secret is shown this once. It is the same key: id, limits and use stay, and secrets that overlap share them.
    Without an overlap all older secrets stop working at once, also those that an earlier overlap let work on."""
    overlap = timedelta(seconds=body.overlap_seconds if body else 0)
    async with services.changing_callers() as session:
        key, secret = await rotate_key(session, key_id=key_id, overlap=overlap)
    return _with_secret(key, secret)


def _with_secret(key: object, secret: str) -> KeyWithSecret:
    return KeyWithSecret(**KeyAnswer.model_validate(key).model_dump(mode="python"), key=secret)
