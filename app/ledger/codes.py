"""Redemption codes: money that whoever has the code may put on their account, once.

A code is kept as a hash, and shown when it is made. Redeeming locks the code, then the account, so that of any number who
come at once one gets the money; a UNIQUE constraint of the entries stands behind that. Codes that don't exist are counted
for the key that tries them, also over several processes: after `GUESSES`, it has to wait.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from math import ceil

from sqlalchemy import case, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.billing.code import new_code, read_code
from app.errors import Conflict, LimitExceeded, NotFound, ProxyError, UnacceptableValue
from app.ledger.accounts import lock_account
from app.ledger.audit_entries import record, record_change
from app.ledger.credits import check_amount, check_texts, enter
from app.models import CodeBatch, CodeGuesses, CreditEntry, RedemptionCode
from app.paging import Page, cut, decode

MOST_CODES = 1000
"""Of one batch."""
GUESSES = 5
"""Wrong codes that a key may try at once; after that, one in `GUESS_EVERY` seconds."""
GUESS_EVERY = 60.0
BATCHES, SINGLE = "code-batches", "codes"

_is_expired = CodeBatch.expires_at <= func.clock_timestamp()
_is_left = RedemptionCode.redeemed_at.is_(None)
STATE = case(
    (~_is_left, "redeemed"), (CodeBatch.voided_at.is_not(None), "voided"), (func.coalesce(_is_expired, False), "expired"), else_="open"
).label("state")


@dataclass(frozen=True, slots=True)
class BatchCount:
    """How many codes a batch has, by what became of them."""

    batch: CodeBatch
    made: int
    open: int
    redeemed: int
    expired: int
    voided: int


@dataclass(frozen=True, slots=True)
class KnownCode:
    """`state`: `open`, or what became of it: `redeemed`, `expired`, `voided`."""

    code: RedemptionCode
    batch: CodeBatch
    state: str


async def make_codes(
    session: AsyncSession, *, amount: Decimal, count: int, expires_at: datetime | None, note: str | None
) -> tuple[CodeBatch, list[str]]:
    """The batch, and its codes, which nobody can read again."""
    check_amount(amount)
    check_texts(note, None)
    if amount <= 0:
        raise UnacceptableValue("amount: must be greater than 0")
    if not 1 <= count <= MOST_CODES:
        raise UnacceptableValue(f"count: must be from 1 to {MOST_CODES}; make several batches for more")
    if expires_at is not None and expires_at <= (await session.execute(select(func.clock_timestamp()))).scalar_one():
        raise UnacceptableValue("expires_at: must lie in the future")
    batch = CodeBatch(amount=amount, expires_at=expires_at, note=note)
    session.add(batch)
    await session.flush()
    await session.refresh(batch)
    codes = [new_code() for _ in range(count)]
    rows = [{"batch_id": batch.id, "code_hash": _hashed(read_code(code)), "ending": code[-4:]} for code in codes]
    await session.execute(insert(RedemptionCode), rows)
    told = {"amount": amount, "count": count, "expires_at": expires_at, "note": note}
    await record_change(session, "codes", batch.id, before=None, after=told)
    return batch, codes


async def redeem_code(session: AsyncSession, *, text: str, user_id: str, key_id: int, default_credit: Decimal) -> CreditEntry | ProxyError:
    """The entry. What it returns as an error is to be raised when the session has committed, as a wrong guess is counted
    in it. Raises `UnacceptableValue` for a mistyped code, which counts as none."""
    try:
        code = read_code(text)
    except ValueError as mistyped:
        raise UnacceptableValue(f"code: {mistyped}", code="code_mistyped") from None
    level = await _guesses(session, key_id)
    if level > GUESSES - 1:
        wait = ceil((level - GUESSES + 1) * GUESS_EVERY)
        return LimitExceeded(f"Too many codes that don't exist. Try again in {wait} s.", code="too_many_guesses", retry_after=wait)
    query = select(RedemptionCode).where(RedemptionCode.code_hash == _hashed(code)).with_for_update()
    found = (await session.scalars(query)).one_or_none()
    if found is None:
        await session.execute(update(CodeGuesses).where(CodeGuesses.key_id == key_id).values(level=level + 1))
        return NotFound("There is no such code. Ask whoever gave it to you.", code="code_unknown")
    # the batch is locked against those who void it
    query_of_batch = select(CodeBatch, STATE).join(RedemptionCode, RedemptionCode.batch_id == CodeBatch.id)
    query_of_batch = query_of_batch.where(RedemptionCode.id == found.id).with_for_update(read=True, of=CodeBatch)
    batch, state = (await session.execute(query_of_batch)).one()
    if refusal := _refusal(found, batch, state, user_id):
        return refusal
    return await _take(session, found, batch, user_id=user_id, default_credit=default_credit)


async def list_batches(session: AsyncSession, *, limit: int, cursor: str | None) -> Page[BatchCount]:
    """Newest first."""
    query = select(CodeBatch).order_by(CodeBatch.id.desc()).limit(limit + 1)
    if (before := decode(BATCHES, cursor, int)) is not None:
        query = query.where(CodeBatch.id < before)
    batches = (await session.scalars(query)).all()
    counted = await _count(session, batches)
    return cut(counted, limit=limit, listing=BATCHES, key=lambda counts: counts.batch.id)


async def list_codes(session: AsyncSession, *, batch_id: int | None, ending: str | None, limit: int, cursor: str | None) -> Page[KnownCode]:
    """Newest first: of one batch, or those that end so, whatever case they are written in."""
    query = select(RedemptionCode, CodeBatch, STATE).join(CodeBatch, CodeBatch.id == RedemptionCode.batch_id)
    if batch_id is not None:
        query = query.where(RedemptionCode.batch_id == batch_id)
    if ending is not None:
        query = query.where(RedemptionCode.ending == ending.upper())
    if (before := decode(SINGLE, cursor, int)) is not None:
        query = query.where(RedemptionCode.id < before)
    rows = (await session.execute(query.order_by(RedemptionCode.id.desc()).limit(limit + 1))).all()
    return cut([KnownCode(*row) for row in rows], limit=limit, listing=SINGLE, key=lambda known: known.code.id)


async def void_codes(session: AsyncSession, *, batch_id: int) -> BatchCount:
    """Those of the batch that nobody has redeemed yet, for good; waits for those who are redeeming some just now. Raises
    `NotFound`."""
    batch = await session.get(CodeBatch, batch_id, with_for_update=True)
    if batch is None:
        raise NotFound(f"There is no batch of codes {batch_id}.", code="batch_not_found")
    if batch.voided_at is None:
        batch.voided_at = func.clock_timestamp()
        await session.flush()
        await session.refresh(batch)
        await record(session, "codes.void", "codes", batch.id, before=None, after={"voided_at": batch.voided_at})
    [counts] = await _count(session, [batch])
    return counts


async def _guesses(session: AsyncSession, key_id: int) -> float:
    """What is left of the key's wrong guesses, whose row stays locked: those that come at once are counted one by one."""
    drained = func.extract("epoch", func.clock_timestamp() - CodeGuesses.drained_at) / GUESS_EVERY
    locked = insert(CodeGuesses).values(key_id=key_id)
    locked = locked.on_conflict_do_update(
        index_elements=["key_id"], set_={"level": func.greatest(0, CodeGuesses.level - drained), "drained_at": func.clock_timestamp()}
    )
    return float((await session.execute(locked.returning(CodeGuesses.level))).scalar_one())


async def _take(session: AsyncSession, code: RedemptionCode, batch: CodeBatch, *, user_id: str, default_credit: Decimal) -> CreditEntry:
    account = await lock_account(session, user_id=user_id, default_credit=default_credit)
    entry = await enter(session, account, CreditEntry(user_id=user_id, amount=batch.amount, note=batch.note, code_id=code.id))
    code.redeemed_at, code.redeemed_by = func.clock_timestamp(), user_id
    await session.flush()
    return entry


def _refusal(code: RedemptionCode, batch: CodeBatch, state: str, user_id: str) -> ProxyError | None:
    if state == "redeemed":
        who = "You have redeemed this code already" if code.redeemed_by == user_id else "This code has been redeemed"
        when = f", on {code.redeemed_at:%Y-%m-%d}" if code.redeemed_at else ""
        return Conflict(f"{who}{when}. Each works once.", code="code_redeemed")
    if state == "expired":
        return Conflict(f"This code has expired, on {batch.expires_at:%Y-%m-%d} (UTC). Ask whoever gave it to you.", code="code_expired")
    if state == "voided":
        return Conflict("This code has been voided. Ask whoever gave it to you.", code="code_voided")
    return None


async def _count(session: AsyncSession, batches: Sequence[CodeBatch]) -> list[BatchCount]:
    states = (
        select(RedemptionCode.batch_id, STATE, func.count().label("codes"))
        .join(CodeBatch, CodeBatch.id == RedemptionCode.batch_id)
        .where(RedemptionCode.batch_id.in_([batch.id for batch in batches]))
        .group_by(RedemptionCode.batch_id, STATE)
    )
    counts: dict[tuple[int, str], int] = {(row.batch_id, row.state): row.codes for row in (await session.execute(states)).all()}
    return [_counts_of(batch, counts) for batch in batches]


def _counts_of(batch: CodeBatch, counts: dict[tuple[int, str], int]) -> BatchCount:
    by_state = {state: counts.get((batch.id, state), 0) for state in ("open", "redeemed", "expired", "voided")}
    return BatchCount(batch, sum(by_state.values()), **by_state)


def _hashed(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()
