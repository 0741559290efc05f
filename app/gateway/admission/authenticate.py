"""Step 1, authenticate: whose call is this?

The key comes where clients of the various protocols put it. Raises `Unauthenticated`. What a known caller may not do is
told apart, since its refusal leaves a row.
"""

from urllib.parse import parse_qs

from starlette.types import Scope

from app.catalog.callers import Caller, Callers
from app.errors import Forbidden, Unauthenticated

_KEY_HEADERS = (b"x-api-key", b"api-key", b"x-goog-api-key")


async def authenticate(callers: Callers, token: str | None, *, address: str | None) -> Caller:
    """`token`: the key as it was presented; `address`: where it comes from."""
    if not token:
        raise Unauthenticated(
            "You didn't provide an API key. Send it as a header: `Authorization: Bearer YOUR_KEY`.", code="missing_api_key"
        )
    return await callers.find(token, address)


def check_caller(caller: Caller, address: str | None) -> None:
    """Raises `Forbidden` for a disabled user, and for an address that the key may not be used from."""
    if caller.is_disabled:
        raise Forbidden("This account has been disabled. Ask your operator to enable it.", code="user_disabled")
    if not caller.may_come_from(address):
        raise Forbidden(f"This API key may not be used from {address}. Use it from an allowed address.", code="address_not_allowed")


def presented_key(scope: Scope) -> str | None:
    headers: dict[bytes, bytes] = dict(scope["headers"])
    scheme, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    for name in _KEY_HEADERS:
        if value := headers.get(name):
            return value.decode("latin-1").strip()
    query: bytes = scope["query_string"]
    return next(iter(parse_qs(query.decode("latin-1")).get("key", ())), None)
