"""What routes are given: the services of the process, and who is asking.

Admin routes take `ADMIN_TOKEN` and the named tokens of `/admin/tokens`; a viewer's for GET alone. `/logs` takes a platform key as
well, and `/v1/key` nothing else. Where no header tells who asks, the session of a browser does (`app.api.session`).
"""

import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.session import Session, Sessions, digest_of
from app.catalog.admin_tokens import MARK, ROOT, Operator, find_hashed, find_operator
from app.catalog.callers import Caller, Callers
from app.catalog.guesses import Guesses
from app.catalog.routing import Catalog
from app.catalog.vault import Vault
from app.database import Database, acts
from app.errors import Forbidden, Unauthenticated, Unavailable
from app.gateway.admission.authenticate import authenticate, check_caller, presented_key
from app.gateway.call import Gateway
from app.gateway.watching.readings import Readings
from app.ledger.spool import Spool
from app.metrics.shared import SharedCounts
from app.reports.calls import EVERYTHING, Visibility
from app.reports.export import Exports
from app.reports.open_calls import OpenCalls
from app.settings import Settings

PLATFORM_KEY = "platformKey"
"""What OpenAPI calls the scheme."""
_admin_scheme = HTTPBearer(scheme_name="adminToken", description="`ADMIN_TOKEN`, or a token of `/admin/tokens`.", auto_error=False)
_key_scheme = HTTPBearer(scheme_name=PLATFORM_KEY, description="A platform key, as made by `POST /admin/keys`.", auto_error=False)


@dataclass(frozen=True, slots=True)
class Services:
    """One for a process, at `app.state.services`. `database`: for operators and reports; `calls_database`: for what calls need."""

    settings: Settings
    database: Database
    calls_database: Database
    vault: Vault
    catalog: Catalog
    callers: Callers
    gateway: Gateway
    spool: Spool
    exports: Exports
    guesses: Guesses
    readings: Readings
    shared_counts: SharedCounts
    open_calls: OpenCalls
    sessions: Sessions

    @asynccontextmanager
    async def changing_catalog(self) -> AsyncIterator[AsyncSession]:
        """A transaction after which this process routes and prices by what was changed; others follow shortly."""
        async with self.database.transaction() as session:
            yield session
        # what was changed is committed: that it can't be read back just now doesn't undo it
        with suppress(Unavailable):
            await self.catalog.refresh()

    @asynccontextmanager
    async def changing_callers(self) -> AsyncIterator[AsyncSession]:
        """A transaction after which this process looks every key up anew."""
        async with self.database.transaction() as session:
            yield session
        self.callers.forget()


async def _services(request: Request) -> Services:
    services = request.app.state.services
    assert isinstance(services, Services)
    return services


ServicesOf = Annotated[Services, Depends(_services)]


async def require_operator(request: Request, services: ServicesOf, _: Annotated[object, Depends(_admin_scheme)]) -> Operator:
    """Of any role: for what changes nothing. Changes are made in the operator's name from here on."""
    operator = await _operator(request, services)
    if operator is None:
        if "authorization" in request.headers:
            services.guesses.wrong(_address(request))
        raise Unauthenticated(
            "This needs an operator's token. Send it as a header: `Authorization: Bearer $ADMIN_TOKEN`.",
            code="invalid_admin_token",
            headers={"WWW-Authenticate": "Bearer"},
        )
    acts(operator.actor)
    return operator


async def require_admin(request: Request, operator: Annotated[Operator, Depends(require_operator)]) -> None:
    """Viewers may GET."""
    if operator.role != "admin" and request.method not in ("GET", "HEAD"):
        raise Forbidden("This token's role is `viewer`: it may read, and change nothing. Use one of the role `admin`.", code="viewer_only")


async def _caller(request: Request, services: ServicesOf, _: Annotated[object, Depends(_key_scheme)]) -> Caller:
    address = _address(request)
    session = None if presented_key(request.scope) else services.sessions.of(request)
    if session is not None and session.kind == "key":
        caller = await services.callers.find_hashed(bytes.fromhex(session.digest), address)
    else:
        caller = await authenticate(services.callers, presented_key(request.scope), address=address)
    check_caller(caller, address)
    acts(f"key:{caller.key_id}")
    return caller


CallerOf = Annotated[Caller, Depends(_caller)]


async def _visibility(
    request: Request,
    services: ServicesOf,
    _: Annotated[object, Depends(_admin_scheme)],
    __: Annotated[object, Depends(_key_scheme)],
) -> Visibility:
    if await _operator(request, services):
        return EVERYTHING
    try:
        caller = await _caller(request, services, None)
    except Unauthenticated:
        services.guesses.wrong(_address(request))
        raise
    return Visibility(user_id=caller.user_id, key_id=None if caller.scope == "account" else caller.key_id)


VisibilityOf = Annotated[Visibility, Depends(_visibility)]


async def _operator(request: Request, services: Services) -> Operator | None:
    """Raises `LimitExceeded` where the address has guessed too often, whatever it presents now: a right token would show else."""
    scheme, _, presented = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        services.guesses.check(_address(request))
        return await operator_of(services, presented.strip())
    session = None if presented_key(request.scope) else services.sessions.of(request)
    return await operator_in(services, session) if session is not None else None


async def operator_of(services: Services, token: str) -> Operator | None:
    """Whose token it is; None: no operator's."""
    root = services.settings.admin_token
    if root is not None and hmac.compare_digest(token.encode(), root.get_secret_value().encode()):
        return ROOT
    if not token.startswith(MARK):
        return None
    async with services.database.transaction() as session:
        return await find_operator(session, token)


def _address(request: Request) -> str | None:
    return request.client.host if request.client else None


async def operator_in(services: Services, session: Session) -> Operator | None:
    """Whose session it is; None: no operator's, or no longer one's."""
    root = services.settings.admin_token
    if session.kind == "root" and root is not None:
        return ROOT if hmac.compare_digest(session.digest, digest_of(root.get_secret_value())) else None
    if session.kind != "token":
        return None
    async with services.database.transaction() as transaction:
        return await find_hashed(transaction, session.digest)
