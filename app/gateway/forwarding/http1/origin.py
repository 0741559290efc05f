"""Where a URL leads, and what is asked for there. Pure functions, which raise `ValueError` for what is no URL."""

from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, urlsplit

LONGEST_REMEMBERED = 512
"""Characters of a URL that is read once only: those with a client's words in them may be long, and each another."""
_SAFE = "/?%:@!$&'()*+,;=-._~[]|"


class Origin(NamedTuple):
    """Connections are kept for each. `host`: a name in ASCII, or an address without brackets."""

    is_tls: bool
    host: str
    port: int

    @property
    def named(self) -> bytes:
        """As the header `Host` has it (RFC 9110, 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (host if self.port == (443 if self.is_tls else 80) else f"{host}:{self.port}").encode()


def place_of(url: str) -> tuple[Origin, bytes]:
    """The origin, and the start of a request there: its target, version and `Host`."""
    return _remembered(url) if len(url) <= LONGEST_REMEMBERED else _read(url)


def _read(url: str) -> tuple[Origin, bytes]:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("no URL of a server")
    is_tls = parts.scheme == "https"
    host = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode()
    origin = Origin(is_tls, host, parts.port or (443 if is_tls else 80))
    target = quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=_SAFE)
    return origin, b"%b HTTP/1.1\r\nHost: %b\r\n" % (target.encode(), origin.named)


_remembered = lru_cache(maxsize=256)(_read)
