"""Who looks at the dashboard, by the session of their browser."""

from dataclasses import dataclass
from typing import Literal

from fastapi import Request

from app.api.dependencies import Services, operator_in
from app.api.session import Session
from app.catalog.keys import get_key
from app.errors import Forbidden, Unauthenticated
from app.gateway.admission.authenticate import check_caller

Role = Literal["admin", "viewer", "owner"]
OPERATORS: tuple[Role, ...] = ("admin", "viewer")
EVERYBODY: tuple[Role, ...] = ("admin", "viewer", "owner")


@dataclass(frozen=True, slots=True)
class Visitor:
    """`role` `owner`: holds a platform key, whose user is `user_id`. `scope`: of that key."""

    role: Role
    name: str
    user_id: str | None = None
    scope: str | None = None


async def visitor_of(request: Request, services: Services, session: Session | None) -> Visitor | None:
    """None: nobody has signed in, or what they have signed in with no longer holds. Raises `Unavailable` where that can't be told."""
    if session is None:
        return None
    if session.kind != "key":
        operator = await operator_in(services, session)
        return Visitor("admin" if operator.role == "admin" else "viewer", operator.actor) if operator else None
    address = request.client.host if request.client else None
    try:
        caller = await services.callers.find_hashed(bytes.fromhex(session.digest), address)
        check_caller(caller, address)
    except (Unauthenticated, Forbidden):
        return None
    async with services.database.reading() as reading:
        key = await get_key(reading, key_id=caller.key_id)
    return Visitor("owner", key.name or key.key_prefix or f"#{key.id}", caller.user_id, caller.scope)
