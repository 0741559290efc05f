"""Each client of httpx, and of most SDKs, reads all certificate authorities, which takes 20 to 40 ms. No test asks one of them: what
speaks TLS here has a certificate of its own."""

import os
import ssl
import tempfile
from pathlib import Path

import certifi

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

_one_authority = tempfile.NamedTemporaryFile("w", suffix=".pem")  # noqa: SIM115  for as long as the process runs


def know_one_authority() -> None:
    """In place of the hundred and forty that clients of this process know by default."""
    end = "-----END CERTIFICATE-----\n"
    _one_authority.write(Path(certifi.where()).read_text().partition(end)[0] + end)
    _one_authority.flush()
    os.environ["SSL_CERT_FILE"] = _one_authority.name
    certifi.where = lambda: _one_authority.name  # whom clients ask that look at no environment
