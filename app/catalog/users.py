"""Users, with their accounts as operators see them.

A user made here gets its account at once. One that the platform made gets it with the first call, credit or change; until
then it is shown as it will be opened, with `DEFAULT_CREDIT`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Self

from sqlalchemy import Select, exists, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.catalog import checks
from app.catalog.groups import group_id_of
from app.catalog.violations import explained
from app.errors import Conflict, NotFound
from app.ledger.accounts import available, ensure_account, set_credit_limit, set_disabled
from app.ledger.audit_entries import picked, record_change
from app.models import Account, SpendGroup, User, UserPolicy
from app.paging import Page, cut, decode

LISTING = "users"
NOT_BELOW = ("credits", "statement")
"""What REST has below a user."""
NO_POLICY: Mapping[str, Any] = {}
LIMITS = ("rpm", "tpm", "max_concurrency", "daily_limit", "monthly_limit")
AUDITED = ("name", "credit_limit", "group", *LIMITS, "disabled")


@dataclass(frozen=True, slots=True)
class UserAccount:
    """`account_opened_at` None: the account opens on first use, and the money is what it will open with."""

    id: str
    name: str | None
    credit: Decimal
    credit_limit: Decimal
    billed: Decimal
    spent: Decimal
    held: Decimal
    available: Decimal
    written_off: Decimal
    group: str | None
    rpm: int | None
    tpm: int | None
    max_concurrency: int | None
    daily_limit: Decimal | None
    monthly_limit: Decimal | None
    disabled: bool
    disabled_at: datetime | None
    account_opened_at: datetime | None

    @classmethod
    def of(cls, user: User, account: Account | None, policy: UserPolicy | None, group: str | None, *, default_credit: Decimal) -> Self:
        account = account or _unopened(default_credit)
        policy = policy or UserPolicy()
        return cls(
            id=user.id,
            name=user.name,
            credit=account.credit,
            credit_limit=account.credit_limit,
            billed=account.billed,
            spent=account.spent,
            held=account.held,
            available=available(account),
            written_off=account.written_off,
            group=group,
            rpm=policy.rpm,
            tpm=policy.tpm,
            max_concurrency=policy.max_concurrency,
            daily_limit=policy.daily_limit,
            monthly_limit=policy.monthly_limit,
            disabled=account.disabled_at is not None,
            disabled_at=account.disabled_at,
            account_opened_at=account.created_at,
        )


async def create_user(
    session: AsyncSession,
    *,
    user_id: str,
    name: str | None,
    credit_limit: Decimal,
    default_credit: Decimal,
    policy: Mapping[str, Any] = NO_POLICY,
) -> UserAccount:
    """`policy`: the limits that are set, and `group` by its name. Raises `Conflict` where the user exists, or where the platform's
    own table asks for more than an id and a name."""
    checks.name("id", user_id, longest=50, not_below=NOT_BELOW)
    values = {"id": user_id} | ({} if name is None else {"name": checks.text("name", name, longest=255)})
    if (await session.execute(select(exists().where(User.id == user_id)))).scalar_one():
        raise Conflict(_taken(user_id), code="user_exists")
    with explained(table="users", taken=_taken(user_id)):
        await session.execute(insert(User).values(values))
    await ensure_account(session, user_id, default_credit)
    if credit_limit:
        await _set_credit_limit(session, user_id=user_id, credit_limit=credit_limit, default_credit=default_credit)
    await _set_policy(session, user_id=user_id, policy={name: value for name, value in policy.items() if value is not None})
    user = await get_user(session, user_id=user_id, default_credit=default_credit)
    await record_change(session, "user", user_id, before=None, after=picked(user, (*AUDITED, "credit")))
    return user


async def get_user(session: AsyncSession, *, user_id: str, default_credit: Decimal) -> UserAccount:
    query = _users().where(User.id == user_id)
    row = (await session.execute(query, execution_options={"populate_existing": True})).one_or_none()
    if row is None:
        raise NotFound(f"There is no user {user_id!r}.", code="user_not_found")
    return UserAccount.of(*row, default_credit=default_credit)


async def list_users(
    session: AsyncSession, *, default_credit: Decimal, limit: int, cursor: str | None, q: str | None = None
) -> Page[UserAccount]:
    """By id, ascending; those that have `q` in their id or name."""
    query = _users().order_by(User.id).limit(limit + 1)
    if q is not None:
        query = query.where(or_(User.id.icontains(q, autoescape=True), User.name.icontains(q, autoescape=True)))
    if (after := decode(LISTING, cursor, str)) is not None:
        query = query.where(User.id > after)
    users = [UserAccount.of(*row, default_credit=default_credit) for row in await session.execute(query)]
    return cut(users, limit=limit, listing=LISTING, key=lambda user: user.id)


async def update_user(session: AsyncSession, *, user_id: str, changes: Mapping[str, Any], default_credit: Decimal) -> UserAccount:
    """`changes`: `name`, `credit_limit`, `disabled`, `group` and limits; what is absent stays, None lifts a limit."""
    await session.execute(select(User.id).where(User.id == user_id).with_for_update(key_share=True))
    before = await get_user(session, user_id=user_id, default_credit=default_credit)
    if "name" in changes:
        name = changes["name"]
        with explained(table="users", taken="Another user has this name."):
            await session.execute(
                update(User).where(User.id == user_id).values(name=None if name is None else checks.text("name", name, longest=255))
            )
    if "credit_limit" in changes:
        await _set_credit_limit(session, user_id=user_id, credit_limit=changes["credit_limit"], default_credit=default_credit)
    if "disabled" in changes:
        await set_disabled(session, user_id=user_id, disabled=changes["disabled"], default_credit=default_credit)
    await _set_policy(session, user_id=user_id, policy={name: changes[name] for name in ("group", *LIMITS) if name in changes})
    after = await get_user(session, user_id=user_id, default_credit=default_credit)
    await record_change(session, "user", user_id, before=picked(before, AUDITED), after=picked(after, AUDITED))
    return after


def _unopened(default_credit: Decimal) -> Account:
    """The account as it will be opened."""
    none = Decimal("0.0000")
    return Account(credit=none + default_credit, credit_limit=none, billed=none, spent=none, held=none, written_off=none)


def _users() -> Select[User, Account, UserPolicy, str]:
    return (
        select(User, Account, UserPolicy, SpendGroup.name)
        .outerjoin(Account, Account.user_id == User.id)
        .outerjoin(UserPolicy, UserPolicy.user_id == User.id)
        .outerjoin(SpendGroup, SpendGroup.id == UserPolicy.group_id)
    )


async def _set_policy(session: AsyncSession, *, user_id: str, policy: Mapping[str, Any]) -> None:
    if not policy:
        return
    values = {name: None if value is None else checks.limit(name, value) for name, value in policy.items() if name != "group"}
    if "group" in policy:
        values["group_id"] = await group_id_of(session, policy["group"])
    await session.execute(
        insert(UserPolicy).values(user_id=user_id, **values).on_conflict_do_update(index_elements=["user_id"], set_=values)
    )


async def _set_credit_limit(session: AsyncSession, *, user_id: str, credit_limit: Decimal, default_credit: Decimal) -> None:
    checks.money("credit_limit", credit_limit, decimals=4)
    await set_credit_limit(session, user_id=user_id, credit_limit=credit_limit, default_credit=default_credit)


def _taken(user_id: str) -> str:
    return f"There is a user {user_id!r} already. Change it (PATCH, or 'billing-proxy users set'), or take another id."
