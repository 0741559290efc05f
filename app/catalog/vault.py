"""Upstreams' secrets at rest: Fernet (AES-128-CBC with HMAC-SHA-256) under a key derived from `SECRET_KEY` by HKDF.

What was stored under a former `SECRET_KEY` is read as long as that one is in `SECRET_KEY_OLD`. A secret that can't be read,
because it was stored under none of them or the bytes are damaged, raises `UpstreamFailed` with code `secret_unreadable`; the
message holds neither secret nor key.
"""

import base64
from typing import Self

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from app.errors import UpstreamFailed
from app.settings import Settings

_PURPOSE = b"aigcspace-billing-proxy upstream secrets 1"


class Vault:
    """Writes under `secret_key`, and reads what was written under it or one of `former`."""

    def __init__(self, secret_key: str, *former: str) -> None:
        self._current = fernet(secret_key, _PURPOSE)
        self._any = MultiFernet([self._current, *(fernet(key, _PURPOSE) for key in former)])

    @classmethod
    def of(cls, settings: Settings) -> Self:
        assert settings.secret_key is not None
        return cls(settings.secret_key.get_secret_value(), *settings.former_secret_keys)

    def encrypt(self, secret: str) -> bytes:
        return self._current.encrypt(secret.encode())

    def decrypt(self, stored: bytes) -> str:
        try:
            return self._any.decrypt(stored).decode()
        except InvalidToken:
            raise UpstreamFailed(
                "The stored secret can't be read with this SECRET_KEY. Start with the SECRET_KEY that it was stored with, also in "
                "SECRET_KEY_OLD, or set the upstream's `api_key` again.",
                code="secret_unreadable",
            ) from None

    def is_current(self, stored: bytes) -> bool:
        """Whether it was written under the `SECRET_KEY` of now."""
        try:
            self._current.decrypt(stored)
        except InvalidToken:
            return False
        return True


def fernet(secret_key: str, purpose: bytes) -> Fernet:
    """What is sealed for one purpose can't be read for another."""
    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose).derive(secret_key.encode())
    return Fernet(base64.urlsafe_b64encode(derived))
