"""Sessions of browsers: a cookie in place of a token, for those who have signed in to the dashboard.

The cookie is sealed under a key made of `SECRET_KEY`, so that any process reads what another has written, and holds the SHA-256
of the token or platform key that was presented, never the secret itself. That is looked up anew with each request: a session
ends when its token is disabled, expires or is rotated, and after `IDLE` without a page or `LONGEST` in all.

The cookie is HttpOnly and SameSite=Strict. What changes something must come from our own pages besides: with the header `HEADER`,
which no form can send, and from our own origin. Raises `Forbidden`, code `cross_site`, where it doesn't.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from time import time
from typing import Literal
from urllib.parse import urlsplit

import msgspec
from cryptography.fernet import InvalidToken, MultiFernet
from starlette.requests import Request
from starlette.responses import Response

from app.catalog.vault import fernet
from app.errors import Forbidden
from app.settings import Settings

Kind = Literal["root", "token", "key"]
HEADER = "x-dashboard"
COOKIE = "billing-proxy-session"
SECURE_COOKIE = f"__Host-{COOKIE}"
"""Over https. Browsers take a name that begins so from this very host alone, and with `Secure`: RFC 6265bis, 4.1.3.2."""
IDLE = timedelta(hours=12)
LONGEST = timedelta(days=7)
RENEWED = timedelta(minutes=10)
"""How old the cookie grows before a page renews it."""
_PURPOSE = b"aigcspace-billing-proxy dashboard sessions 1"
_READS = ("GET", "HEAD")


@dataclass(frozen=True, slots=True)
class Session:
    """`digest`: SHA-256 of what was presented, in hexadecimal. `began`, `renewed`: seconds since 1970."""

    kind: Kind
    digest: str
    began: int
    renewed: int


class Sessions:
    def __init__(self, settings: Settings) -> None:
        assert settings.secret_key is not None
        keys = (settings.secret_key.get_secret_value(), *settings.former_secret_keys)
        self._seal = MultiFernet([fernet(key, _PURPOSE) for key in keys])

    def of(self, request: Request) -> Session | None:
        """None: no cookie, or none that still holds."""
        sealed = request.cookies.get(SECURE_COOKIE) or request.cookies.get(COOKIE)
        if not sealed:
            return None
        try:
            session = msgspec.json.decode(self._seal.decrypt(sealed.encode()), type=Session)
        except (InvalidToken, ValueError):
            return None
        now = time()
        if now - session.renewed > IDLE.total_seconds() or now - session.began > LONGEST.total_seconds():
            return None
        if request.method not in _READS:
            require_own_page(request.headers)
        return session

    def begin(self, request: Request, response: Response, kind: Kind, secret: str) -> None:
        """`request` is a browser's POST: by its `Origin` it tells whether it speaks https, also where a proxy of ours does for us."""
        now = int(time())
        is_secure = request.url.scheme == "https" or request.headers.get("origin", "").startswith("https://")
        self._write(response, Session(kind, digest_of(secret), now, now), is_secure=is_secure)

    def renew(self, request: Request, response: Response, session: Session) -> None:
        now = int(time())
        if now - session.renewed > RENEWED.total_seconds():
            renewed = Session(session.kind, session.digest, session.began, now)
            self._write(response, renewed, is_secure=SECURE_COOKIE in request.cookies)

    def end(self, response: Response) -> None:
        response.delete_cookie(COOKIE, httponly=True, samesite="strict")
        response.delete_cookie(SECURE_COOKIE, httponly=True, samesite="strict", secure=True)

    def _write(self, response: Response, session: Session, *, is_secure: bool) -> None:
        sealed = self._seal.encrypt(msgspec.json.encode(session)).decode()
        name = SECURE_COOKIE if is_secure else COOKIE
        response.set_cookie(name, sealed, max_age=int(IDLE.total_seconds()), httponly=True, samesite="strict", secure=is_secure)


def digest_of(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def require_own_page(headers: Mapping[str, str]) -> None:
    """Browsers tell where a request comes from in `Sec-Fetch-Site`, or, over plain http, in `Origin` alone."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    is_own = site == "same-origin" if site else bool(origin) and urlsplit(origin or "").netloc == headers.get("host")
    if not is_own or HEADER not in headers:
        raise Forbidden("This is taken from the dashboard's own pages only. Send an `Authorization` header elsewhere.", code="cross_site")
