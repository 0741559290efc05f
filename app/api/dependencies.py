"""What routes are given: the services of the process, and who is asking.

Admin routes take `ADMIN_TOKEN` only. `/logs` takes a platform key as well, and `/v1/key` nothing else.
"""

import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from sqlalchemy.ext.asyncio import AsyncSession

from app.catalog.callers import Caller, Callers
from app.catalog.routing import Catalog
from app.catalog.vault import Vault
from app.database import Database
from app.errors import Unauthenticated, Unavailable
from app.gateway.authenticate import authenticate, check_caller
from app.gateway.call import Gateway
from app.ledger.spool import Spool
from app.reports.calls import EVERYTHING, Visibility
from app.settings import Settings

PLATFORM_KEY = "platformKey"
"""What OpenAPI calls the scheme."""
_admin_scheme = HTTPBearer(scheme_name="adminToken", description="The operator's `ADMIN_TOKEN`.", auto_error=False)
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


async def require_admin(request: Request, services: ServicesOf, _: Annotated[object, Depends(_admin_scheme)]) -> None:
    if not _is_admin(request, services):
        raise Unauthenticated(
            "This needs the operator's token. Send it as a header: `Authorization: Bearer $ADMIN_TOKEN`.",
            code="invalid_admin_token",
            headers={"WWW-Authenticate": "Bearer"},
        )


async def _caller(request: Request, services: ServicesOf, _: Annotated[object, Depends(_key_scheme)]) -> Caller:
    caller = await authenticate(services.callers, request.scope)
    check_caller(caller, request.client.host if request.client else None)
    return caller


CallerOf = Annotated[Caller, Depends(_caller)]


async def _visibility(
    request: Request,
    services: ServicesOf,
    _: Annotated[object, Depends(_admin_scheme)],
    __: Annotated[object, Depends(_key_scheme)],
) -> Visibility:
    if _is_admin(request, services):
        return EVERYTHING
    caller = await _caller(request, services, None)
    return Visibility(user_id=caller.user_id, key_id=None if caller.scope == "account" else caller.key_id)


VisibilityOf = Annotated[Visibility, Depends(_visibility)]


def _is_admin(request: Request, services: Services) -> bool:
    expected = services.settings.admin_token
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if expected is None or scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(token.strip().encode(), expected.get_secret_value().encode())
