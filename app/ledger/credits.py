"""Money paid in or taken back: an append-only entry and the account's credit, in one transaction under the account's lock.

The idempotency key is looked up under that lock, so that two that come at once with one key make one entry.
"""

from decimal import Decimal
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.billing.numbers import plain
from app.errors import Conflict, NotFound, UnacceptableValue
from app.ledger.accounts import available, lock_account
from app.ledger.audit_entries import record
from app.models import Account, CreditEntry, User
from app.paging import Page, cut, decode

LISTING = "credits"
LARGEST_CREDIT = Decimal(1_000_000_000)
LONGEST_NOTE = 1000


async def add_credit(
    session: AsyncSession, *, user_id: str, amount: Decimal, note: str | None, idempotency_key: str | None, default_credit: Decimal
) -> CreditEntry:
    """A negative `amount` takes credit back. Said again with the same idempotency key, it is the first entry again.

    Raises `NotFound` for an unknown user, and `Conflict` for a key that was used for something else, or for taking back
    more than is available.
    """
    check_amount(amount)
    check_texts(note, idempotency_key)
    if not amount:
        raise UnacceptableValue("amount: must not be 0")
    account = await lock_account(session, user_id=user_id, default_credit=default_credit)
    if first := await entry_said_before(session, user_id=user_id, idempotency_key=idempotency_key):
        return replayed(first, amount=amount, note=note, request_id=None)
    return await enter(session, account, CreditEntry(user_id=user_id, amount=amount, note=note, idempotency_key=idempotency_key))


async def enter(session: AsyncSession, account: Account, entry: CreditEntry) -> CreditEntry:
    """Writes an entry and changes the credit by it, under the account's lock. Every entry but an account's first comes by here."""
    _refuse_overdraft(account, entry.amount)
    session.add(entry)
    before = account.credit
    account.credit += entry.amount
    await session.flush()
    await session.refresh(entry)
    told = {"amount": entry.amount, "note": entry.note, "entry_id": entry.id, "request_id": entry.request_id and str(entry.request_id)}
    after = {"credit": account.credit} | {name: value for name, value in told.items() if value is not None}
    await record(session, _action(entry), "user", entry.user_id, before={"credit": before}, after=after)
    return entry


async def list_credits(session: AsyncSession, *, user_id: str, limit: int, cursor: str | None) -> Page[CreditEntry]:
    """Newest first. Entries outlive their user; one who has neither raises `NotFound`."""
    query = select(CreditEntry).where(CreditEntry.user_id == user_id).order_by(CreditEntry.id.desc()).limit(limit + 1)
    if (before := decode(LISTING, cursor, int)) is not None:
        query = query.where(CreditEntry.id < before)
    entries = (await session.scalars(query)).all()
    if not entries and await session.get(User, user_id) is None:
        raise NotFound(f"There is no user {user_id!r}.", code="user_not_found")
    return cut(entries, limit=limit, listing=LISTING, key=lambda entry: entry.id)


def check_amount(amount: Decimal) -> None:
    """Raises `UnacceptableValue` for what is no sum of money that an entry can have. Arithmetic can't be trusted before."""
    if not amount.is_finite() or not abs(amount) <= LARGEST_CREDIT:
        raise UnacceptableValue(f"amount: must be from -{LARGEST_CREDIT} to {LARGEST_CREDIT}")
    if amount != round(amount, 4):
        raise UnacceptableValue("amount: must have at most 4 decimals")


def check_texts(note: str | None, idempotency_key: str | None) -> None:
    if note is not None and (len(note) > LONGEST_NOTE or "\0" in note):
        raise UnacceptableValue(f"note: must have at most {LONGEST_NOTE} characters, none of them NUL")
    if idempotency_key is not None and not (1 <= len(idempotency_key) <= 255 and idempotency_key.isprintable()):
        raise UnacceptableValue("idempotency key: must have 1 to 255 printable characters")


async def entry_said_before(session: AsyncSession, *, user_id: str, idempotency_key: str | None) -> CreditEntry | None:
    """To be asked under the account's lock."""
    if idempotency_key is None:
        return None
    query = select(CreditEntry).where(CreditEntry.user_id == user_id, CreditEntry.idempotency_key == idempotency_key)
    return (await session.scalars(query)).one_or_none()


def replayed(first: CreditEntry, *, amount: Decimal, note: str | None, request_id: UUID | None) -> CreditEntry:
    """The first entry, if the same was asked for. Raises `Conflict`."""
    if (first.amount, first.note, first.request_id) != (amount, note, request_id):
        raise Conflict(
            "This idempotency key was used for something else: another amount, note or call. Send what was sent first, or take a new key.",
            code="idempotency_key_reused",
        )
    return first


def _refuse_overdraft(account: Account, amount: Decimal) -> None:
    left = available(account)
    if left + amount < 0:
        raise Conflict(
            f"Only {plain(left)} is available: the rest is spent, or held by calls in flight. Take back at most that.",
            code="insufficient_available",
        )
    if abs(account.credit + amount) > LARGEST_CREDIT:
        raise Conflict(f"An account's credit stays between -{LARGEST_CREDIT} and {LARGEST_CREDIT}.", code="credit_out_of_range")


def _action(entry: CreditEntry) -> str:
    if entry.code_id is not None:
        return "credit.redeem"
    return "credit.add" if entry.request_id is None else "credit.refund"
