"""Accounts: opened once for each user, changed under their row lock.

The lock is `FOR NO KEY UPDATE`, the one that `reserve` and `settle` take, so that what is read under it is what holds.
"""

from decimal import Decimal

from sqlalchemy import func, literal, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.billing.numbers import plain
from app.errors import Conflict, NotFound
from app.models import Account, CreditEntry, User

OPENING_NOTE = "DEFAULT_CREDIT"


async def ensure_account(session: AsyncSession, user_id: str, default_credit: Decimal) -> bool:
    """Opens the account of a user that exists and has none, with its entry for `default_credit`; whether it did.

    Any number may try at once: one opens it, and the others wait for that one's commit.
    """
    opened = await session.execute(
        insert(Account)
        .from_select(["user_id", "credit"], select(User.id, literal(default_credit, Account.credit.type)).where(User.id == user_id))
        .on_conflict_do_nothing()
        .returning(Account.user_id)
    )
    if opened.scalar_one_or_none() is None:
        return False
    if default_credit > 0:
        await session.execute(insert(CreditEntry).values(user_id=user_id, amount=default_credit, note=OPENING_NOTE))
    return True


async def lock_account(session: AsyncSession, *, user_id: str, default_credit: Decimal) -> Account:
    """The account under its lock, opened where it wasn't. Raises `NotFound` where there is no such user."""
    await ensure_account(session, user_id, default_credit)
    query = select(Account).where(Account.user_id == user_id).with_for_update(key_share=True)
    account = (await session.scalars(query, execution_options={"populate_existing": True})).one_or_none()
    if account is None:
        raise NotFound(f"There is no user {user_id!r}.", code="user_not_found")
    return account


def available(account: Account) -> Decimal:
    """What new calls may hold."""
    return account.credit + account.credit_limit - account.spent - account.held


async def set_credit_limit(session: AsyncSession, *, user_id: str, credit_limit: Decimal, default_credit: Decimal) -> None:
    """How far the account may go below zero. Raises `Conflict` where it is further below already."""
    account = await lock_account(session, user_id=user_id, default_credit=default_credit)
    left = available(account) - account.credit_limit + credit_limit
    if left < 0:
        raise Conflict(
            f"credit_limit: {plain(-left)} more than that is spent or held. Add credit first, or set a higher limit.",
            code="insufficient_available",
        )
    account.credit_limit = credit_limit
    await session.flush()


async def set_disabled(session: AsyncSession, *, user_id: str, disabled: bool, default_credit: Decimal) -> None:
    """New calls of a disabled user are refused at once; those in flight are settled. The first time is kept."""
    account = await lock_account(session, user_id=user_id, default_credit=default_credit)
    if not disabled:
        account.disabled_at = None
    elif account.disabled_at is None:
        account.disabled_at = func.now()
    await session.flush()
