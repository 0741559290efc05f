"""Where a call goes at an upstream, and with which header it proves who is calling. Pure functions.

People paste base URLs in two forms: as SDKs want them, with the version that the provider uses (`https://host/openai/v1`,
`https://api.z.ai/api/paas/v4`, `https://generativelanguage.googleapis.com/v1beta/openai`), or the bare host. A path with a
version as its last or second-last segment is of the first form, and takes a call's path without the version that this
has itself; any other takes the whole of it.
"""

import re
from urllib.parse import urlsplit

from app.catalog.metadata_addresses import REFUSED, is_refused

_VERSION = re.compile(r"v\d+(?:\.\d+)?(?:(?:alpha|beta|preview)\d*)?", re.IGNORECASE)
_OWN_VERSION = re.compile(r"/v\d+(?:(?:alpha|beta)\d*)?(?=/)")
_ENDPOINTS = ("/chat/completions", "/completions", "/embeddings", "/responses", "/messages", "/models")


def join_url(base_url: str, call_path: str) -> str:
    """The URL of `call_path`, such as `/v1/chat/completions` with whatever query it has, at `base_url`."""
    base = base_url.rstrip("/")
    segments = urlsplit(base).path.split("/")[-2:]
    if any(_VERSION.fullmatch(segment) for segment in segments):
        return base + _OWN_VERSION.sub("", call_path, count=1)
    return base + call_path


def auth_headers(auth: str, protocol_auth: str, secret: str) -> dict[str, str]:
    """`auth` is the upstream's setting; `auto` means `protocol_auth`, what the call's protocol uses.

    Known are `bearer`, `x-api-key`, `api-key`, `x-goog-api-key` and `none`; others raise `ValueError`. Without a secret
    there is no header.
    """
    scheme = protocol_auth if auth == "auto" else auth
    if scheme not in ("bearer", "x-api-key", "api-key", "x-goog-api-key", "none"):
        raise ValueError(f"{scheme!r} is no way to authenticate")
    if scheme == "none" or not secret:
        return {}
    return {"Authorization": f"Bearer {secret}"} if scheme == "bearer" else {scheme: secret}


def parse_base_url(text: str, *, allow_link_local: bool = False) -> str:
    """Without trailing slashes. Raises `ValueError` with what to change."""
    base = text.strip().rstrip("/")
    try:
        parts = urlsplit(base)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError("is no URL: check its host and port") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("must start with http:// or https:// and a host, as in https://api.openai.com/v1")
    if not allow_link_local and is_refused(host):
        raise ValueError(REFUSED)
    if parts.username is not None or parts.password is not None:
        raise ValueError("must hold no user name or password; give the secret as `api_key`")
    if "?" in base or "#" in base:
        raise ValueError("must have no query and no fragment")
    if not base.isascii() or not base.isprintable() or " " in base:
        raise ValueError("must be plain ASCII without spaces; encode other characters")
    if endpoint := next((path for path in _ENDPOINTS if parts.path.endswith(path)), None):
        raise ValueError(f"must be the part before {endpoint}, which is added for each call")
    return base
