"""What of others' texts may be kept or passed on: without our secrets, and as PostgreSQL takes it."""

from functools import lru_cache

SHORTEST_SECRET = 12
"""Characters. What is shorter, such as the `none` or `EMPTY` that local servers are given, guards nothing and may stand in any text."""


def without_secret(text: bytes, secret: str | None) -> bytes:
    """Some upstreams repeat, in an error, the credentials that they refuse. The length stays."""
    if secret is None or len(secret) < SHORTEST_SECRET:
        return text
    return text.replace(*_and_its_mask(secret))


@lru_cache(maxsize=1024)
def _and_its_mask(secret: str) -> tuple[bytes, bytes]:
    """Remembered, as each piece of a stream asks."""
    encoded = secret.encode()
    return encoded, b"*" * len(encoded)


def masked(text: str, secret: str | None) -> str:
    return text if secret is None or len(secret) < SHORTEST_SECRET else text.replace(secret, "*" * len(secret))


def clean(text: str | None, longest: int) -> str | None:
    """Without what PostgreSQL can't store (NUL, lone surrogates), and not too long."""
    if text is None:
        return None
    return text[:longest].replace("\x00", "").encode("utf-8", "replace").decode()
