"""What is taken over from another gateway: users with their money, keys that go on working, prices.

All of it in the caller's transaction, or nothing: each record at fault is named. What is here already stays as it is, so
that the same files may be taken in again. How another gateway writes things down is in a module of its own.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from sqlalchemy import exists, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.catalog.keys import adopt_key, update_key
from app.catalog.price_sheet import SheetPrice, import_sheet
from app.catalog.users import create_user, update_user
from app.errors import ProxyError, UnacceptableValue
from app.ledger.credits import add_credit
from app.models import PlatformApiKey, User

MOST_FAULTS = 100
Fault = tuple[str, str]
NEW, HERE = "new", "is here already"


@dataclass(frozen=True, slots=True)
class MovedUser:
    """`where`: of its file. `credit` is what is left to spend. `policy`: limits, and `group` by its name."""

    where: str
    id: str
    name: str | None = None
    credit: Decimal = Decimal(0)
    disabled: bool = False
    policy: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MovedKey:
    """`key_hash`: SHA-256 in hexadecimal of what clients present. `prefix`: what of the key may be shown."""

    where: str
    user_id: str
    key_hash: str
    prefix: str
    name: str | None = None
    disabled: bool = False
    policy: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MovedPrice:
    """`rates`: as `PUT /admin/prices` takes them."""

    where: str
    model: str
    rates: Mapping[str, str]
    tiers: tuple[tuple[int, Mapping[str, str]], ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Moving:
    users: tuple[MovedUser, ...] = ()
    keys: tuple[MovedKey, ...] = ()
    prices: tuple[MovedPrice, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    kind: str
    name: str
    state: str
    what: str
    notes: str


async def take_over(session: AsyncSession, moving: Moving, *, source: str) -> list[Change]:
    """What was done for each record. Raises `UnacceptableValue` with each one at fault."""
    changes: list[Change] = []
    faults: list[Fault] = []
    here = set((await session.scalars(select(User.id).where(User.id.in_({user.id for user in moving.users})))).all())
    for user in moving.users:
        if user.id in here:
            changes.append(_change("user", user.id, HERE, "", user.notes))
        elif await _tried(session, user.where, faults, lambda user=user: _make_user(session, user, source)):
            changes.append(_change("user", user.id, NEW, _said(user.policy, credit=user.credit, disabled=user.disabled), user.notes))
    for key in moving.keys:
        shown = f"{key.prefix}… of {key.user_id}"
        if (await session.execute(select(exists().where(PlatformApiKey.key_hash == key.key_hash)))).scalar_one():
            changes.append(_change("key", shown, HERE, "", key.notes))
        elif await _tried(session, key.where, faults, lambda key=key: _make_key(session, key)):
            changes.append(_change("key", shown, NEW, _said(key.policy, disabled=key.disabled), key.notes))
    refuse(faults)
    return [*changes, *await _prices(session, moving.prices)]


def refuse(faults: Sequence[Fault]) -> None:
    """Raises `UnacceptableValue` where there are any."""
    if faults:
        told = "; ".join(f"{where}: {what}" for where, what in faults[:5])
        more = f"; and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise UnacceptableValue(f"Nothing was changed. {told}{more}.", code="invalid_import", faults=faults[:MOST_FAULTS])


def cents(amount: Decimal) -> Decimal:
    """As credit is kept: to 4 decimals."""
    return amount.quantize(Decimal("0.0001"), ROUND_HALF_UP)


async def _tried(session: AsyncSession, where: str, faults: list[Fault], make: Any) -> bool:
    try:
        async with session.begin_nested():
            await make()
    except ProxyError as wrong:
        faults.append((where, str(wrong).rstrip(".")))
        return False
    return True


async def _make_user(session: AsyncSession, user: MovedUser, source: str) -> None:
    """Without `DEFAULT_CREDIT`: what they had goes with them."""
    nothing = Decimal(0)
    await create_user(session, user_id=user.id, name=user.name, credit_limit=nothing, default_credit=nothing, policy=dict(user.policy))
    if user.credit > 0:
        await add_credit(
            session,
            user_id=user.id,
            amount=user.credit,
            note=f"taken over from {source}",
            idempotency_key=f"import:{source}",
            default_credit=nothing,
        )
    if user.disabled:
        await update_user(session, user_id=user.id, changes={"disabled": True}, default_credit=nothing)


async def _make_key(session: AsyncSession, key: MovedKey) -> None:
    made = await adopt_key(
        session, user_id=key.user_id, name=key.name, key_hash=key.key_hash, key_prefix=key.prefix, policy=dict(key.policy)
    )
    if key.disabled:
        await update_key(session, key_id=made.id, changes={"disabled": True})


async def _prices(session: AsyncSession, prices: Iterable[MovedPrice]) -> list[Change]:
    """Where another price holds here, theirs follows it from now on."""
    sheet, notes = [], {}
    for line, price in enumerate(prices, 1):
        one = SheetPrice(line, price.model, None)
        for meter, rate in price.rates.items():
            one.add(meter, rate, above=None, service_tier="")
        for above, rates in price.tiers:
            for meter, rate in rates.items():
                one.add(meter, rate, above=above, service_tier="")
        sheet.append(one)
        notes[price.model] = price
    if not sheet:
        return []
    imported = await import_sheet(session, sheet, dry_run=False)
    changed = {change.model: change.state for change in imported.changes}
    return [_change("price", name, changed.get(name, HERE), _said(price.rates), price.notes) for name, price in notes.items()]


def _change(kind: str, name: str, state: str, what: str, notes: tuple[str, ...]) -> Change:
    return Change(kind, name, state, what, "; ".join(notes))


def _said(values: Mapping[str, Any], **more: object) -> str:
    told = {name: value for name, value in {**more, **values}.items() if value not in (None, False, Decimal(0))}
    return ", ".join(name if value is True else f"{name}={_written(value)}" for name, value in told.items())


def _written(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
