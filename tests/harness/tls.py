"""httpx reads all certificate authorities for each client, which takes 20 ms, and no test speaks TLS."""

import ssl

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
