"""Upstreams' secrets at rest: Fernet (AES-128-CBC with HMAC-SHA-256) under a key derived from `SECRET_KEY` by HKDF.

A secret that can't be read, because `SECRET_KEY` is another one than when it was stored or the bytes are damaged, raises
`UpstreamFailed` with code `secret_unreadable`; the message holds neither secret nor key.
"""

import base64

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from app.errors import UpstreamFailed

_PURPOSE = b"aigcspace-billing-proxy upstream secrets 1"


class Vault:
    def __init__(self, secret_key: str) -> None:
        derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=_PURPOSE).derive(secret_key.encode())
        self._fernet = Fernet(base64.urlsafe_b64encode(derived))

    def encrypt(self, secret: str) -> bytes:
        return self._fernet.encrypt(secret.encode())

    def decrypt(self, stored: bytes) -> str:
        try:
            return self._fernet.decrypt(stored).decode()
        except InvalidToken:
            raise UpstreamFailed(
                "The stored secret can't be read with this SECRET_KEY. Start with the SECRET_KEY that it was stored with, "
                "or set the upstream's `api_key` again.",
                code="secret_unreadable",
            ) from None
