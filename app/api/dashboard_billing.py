"""`/dashboard/billing/subscription` and `/usage`: the balance as relays tell it, in the shapes of an OpenAI API that is gone.

NextChat and many tools show `hard_limit_usd` less `total_usage` (hundredths) as what is left. So both speak of the same
purse: of the key where it has a spend limit, else of the user's account. Amounts are JSON numbers, in `CURRENCY`.
"""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query
from starlette.responses import Response
from uuid_utils.compat import uuid7

from app.api.dependencies import CallerOf, ServicesOf
from app.billing.numbers import json_number
from app.catalog.keys import Key, get_key
from app.catalog.users import UserAccount, get_user
from app.errors import InvalidRequest
from app.reports.spending import charged_between

router = APIRouter(include_in_schema=False)

NEVER = 4_102_444_800
"""When access ends where nothing ends it: the year 2100. Tools read 0 as long past."""
_DAY = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})", re.ASCII)
Day = Annotated[str | None, Query(max_length=40)]


@router.get("/dashboard/billing/subscription")
@router.get("/v1/dashboard/billing/subscription")
async def show_subscription(services: ServicesOf, caller: CallerOf) -> Response:
    async with services.database.reading() as session:
        key = await get_key(session, key_id=caller.key_id)
        user = await get_user(session, user_id=caller.user_id, default_credit=services.settings.default_credit)
    limit = _number(_most(key, user))
    ends = int(key.expires_at.timestamp()) if key.expires_at else NEVER
    return _json(
        {
            "object": "billing_subscription",
            "has_payment_method": True,
            "canceled": False,
            "soft_limit_usd": limit,
            "hard_limit_usd": limit,
            "system_hard_limit_usd": limit,
            "access_until": ends,
        }
    )


@router.get("/dashboard/billing/usage")
@router.get("/v1/dashboard/billing/usage")
async def show_usage(services: ServicesOf, caller: CallerOf, start_date: Day = None, end_date: Day = None) -> Response:
    """Days are UTC, the last one exclusive as it was at OpenAI. Without days: all that was ever spent."""
    start, end = _day("start_date", start_date), _day("end_date", end_date)
    if start and end and end < start:
        raise InvalidRequest("`end_date` must not lie before `start_date`.", code="invalid_date")
    async with services.database.reading() as session:
        key = await get_key(session, key_id=caller.key_id)
        if start or end:
            first = start or datetime(1970, 1, 1, tzinfo=UTC)
            last = max(end, first + timedelta(days=1)) if end else datetime.max.replace(tzinfo=UTC)
            own = None if key.spend_limit is None else key.id
            spent = await charged_between(session, user_id=caller.user_id, key_id=own, start=first, end=last)
        elif key.spend_limit is not None:
            spent = key.spent
        else:
            spent = (await get_user(session, user_id=caller.user_id, default_credit=services.settings.default_credit)).spent
    return _json({"object": "list", "total_usage": _number(spent * 100)})


def _most(key: Key, user: UserAccount) -> Decimal:
    """What all that is spent from the purse can come to: a key's limit counts as far as the account can pay it."""
    if key.spend_limit is None:
        return user.credit + user.credit_limit
    return min(key.spend_limit, key.spent + key.held + user.available)


def _day(name: str, text: str | None) -> datetime | None:
    """Its first moment. Some clients write `2030-1-1`."""
    if not text:
        return None
    parts = _DAY.match(text)
    try:
        if parts:
            return datetime(int(parts[1]), int(parts[2]), int(parts[3]), tzinfo=UTC)
    except ValueError:
        pass
    raise InvalidRequest(f"`{name}` is no day: write it as in 2030-01-31.", code="invalid_date")


def _number(amount: Decimal) -> msgspec.Raw:
    return msgspec.Raw(json_number(amount))


def _json(content: object) -> Response:
    return Response(msgspec.json.encode(content), headers={"X-Request-ID": str(uuid7())}, media_type="application/json")
