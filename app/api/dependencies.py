"""What routes are given: the services of the process, and who is asking.

Admin routes take `ADMIN_TOKEN` and the named tokens of `/admin/tokens`; a viewer's for GET alone. `/logs` takes a platform key as
well, and `/v1/key` nothing else.
"""

import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from sqlalchemy.ext.asyncio import AsyncSession

from app.catalog.admin_tokens import MARK, ROOT, Operator, find_operator
from app.catalog.callers import Caller, Callers
from app.catalog.routing import Catalog
from app.catalog.vault import Vault
from app.database import Database, acts
from app.errors import Forbidden, Unauthenticated, Unavailable
from app.gateway.authenticate import authenticate, check_caller
from app.gateway.call import Gateway
from app.ledger.spool import Spool
from app.reports.calls import EVERYTHING, Visibility
from app.settings import Settings

PLATFORM_KEY = "platformKey"
"""What OpenAPI calls the scheme."""
_admin_scheme = HTTPBearer(scheme_name="adminToken", description="`ADMIN_TOKEN`, or a token of `/admin/tokens`.", auto_error=False)
_key_scheme = HTTPBearer(scheme_name=PLATFORM_KEY, description="A platform key, as made by `POST /admin/keys`.", auto_error=False)


@dataclass(frozen=True, slots=True)
class Services:
    """One for a process, at `app.state.services`."""

    settings: Settings
    database: Database
    vault: Vault
    catalog: Catalog
    callers: Callers
    gateway: Gateway
    spool: Spool

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
    caller = await authenticate(services.callers, request.scope)
    check_caller(caller, request.client.host if request.client else None)
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
    caller = await _caller(request, services, None)
    return Visibility(user_id=caller.user_id, key_id=None if caller.scope == "account" else caller.key_id)


VisibilityOf = Annotated[Visibility, Depends(_visibility)]


async def _operator(request: Request, services: Services) -> Operator | None:
    scheme, _, presented = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    token, root = presented.strip(), services.settings.admin_token
    if root is not None and hmac.compare_digest(token.encode(), root.get_secret_value().encode()):
        return ROOT
    if not token.startswith(MARK):
        return None
    async with services.database.transaction() as session:
        return await find_operator(session, token)
