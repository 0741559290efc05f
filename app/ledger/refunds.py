"""Refunds of calls: credit entries that name the call. The call's row stays as it is, and its charge stays spent.

All refunds of a call together never exceed its bill: they are added up under the account's lock, which every one of them
takes. So is the bill read, as the late truth of an orphaned call still changes it.
"""

from decimal import Decimal
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.billing.numbers import plain
from app.errors import Conflict, NotFound, UnacceptableValue
from app.ledger.accounts import lock_account
from app.ledger.credits import check_amount, check_texts, enter, entry_said_before, replayed
from app.models import ApiCallLog, CreditEntry


async def refund_call(
    session: AsyncSession,
    *,
    user_id: str,
    request_id: UUID | None,
    amount: Decimal | None,
    note: str | None,
    idempotency_key: str | None,
    default_credit: Decimal,
) -> CreditEntry:
    """`amount` None: all of the bill that is left. Said again with the same idempotency key, it is the first entry again.

    Raises `Conflict` where less is left than `amount`, or nothing; for a row of the platform's own (`request_id` None); and
    for a key that was used for something else. Raises `NotFound` for a call that isn't there any more.
    """
    if request_id is None:
        raise Conflict(
            "This row is the platform's own: no account paid for it here, so there is nothing to refund.", code="not_billed_here"
        )
    if amount is not None:
        check_amount(amount)
        if amount <= 0:
            raise UnacceptableValue("amount: must be greater than 0, or left out for all that is left of the bill")
    check_texts(note, idempotency_key)
    account = await lock_account(session, user_id=user_id, default_credit=default_credit)
    if first := await entry_said_before(session, user_id=user_id, idempotency_key=idempotency_key):
        return replayed(first, amount=first.amount if amount is None else amount, note=note, request_id=request_id)
    left = await _left(session, user_id=user_id, request_id=request_id)
    if left <= 0:
        raise Conflict("Nothing of this call's bill is left to refund.", code="nothing_to_refund")
    if amount is not None and amount > left:
        raise Conflict(f"Only {plain(left)} of this call's bill is left to refund. Refund at most that.", code="refund_exceeds_bill")
    entry = CreditEntry(
        user_id=user_id, amount=left if amount is None else amount, note=note, idempotency_key=idempotency_key, request_id=request_id
    )
    return await enter(session, account, entry)


async def refunded(session: AsyncSession, *, request_id: UUID | None) -> Decimal:
    """What was refunded of a call."""
    query = select(func.coalesce(func.sum(CreditEntry.amount), Decimal("0.0000"))).where(CreditEntry.request_id == request_id)
    return Decimal((await session.execute(query)).scalar_one())


async def _left(session: AsyncSession, *, user_id: str, request_id: UUID) -> Decimal:
    """The row is locked too, so that it isn't archived meanwhile."""
    query = select(ApiCallLog.bill).where(ApiCallLog.request_id == request_id, ApiCallLog.user_id == user_id)
    bill = (await session.execute(query.with_for_update(read=True, key_share=True))).scalar_one_or_none()
    if bill is None:
        raise NotFound("This call's row is not there any more.", code="call_not_found")
    return bill - await refunded(session, request_id=request_id)
