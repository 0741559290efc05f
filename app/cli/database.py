"""Which database a command works on: that of DATABASE_URL, else the embedded one under DATA_DIR.

One process at a time can run the embedded server. `serve` is that process; any other command works on the server that
runs already, and starts one for itself only where none does.
"""

import contextlib
from collections.abc import Iterator

from app import logs
from app.database import FEED_POOL, LEDGER_POOL
from app.errors import StartupError
from app.runtime.postgres import EmbeddedPostgres
from app.settings import Settings


@contextlib.contextmanager
def own_database(settings: Settings) -> Iterator[str]:
    """DATABASE_URL, or a server of this process's own for as long as the block lasts. Raises `StartupError`."""
    if settings.database_url is not None:
        yield settings.database_url
        return
    needed = settings.workers * (settings.database_pool + LEDGER_POOL + FEED_POOL)
    if needed > EmbeddedPostgres.CONNECTIONS:
        raise StartupError(
            f"WORKERS x (DATABASE_POOL + {LEDGER_POOL + FEED_POOL} of its own) is {needed} connections, and the embedded PostgreSQL has "
            f"{EmbeddedPostgres.CONNECTIONS}: lower WORKERS ({settings.workers}) or DATABASE_POOL ({settings.database_pool}), "
            "or set DATABASE_URL"
        )
    logs.configure(settings.log_level)  # a server that ends is told by this process, which may not be one that serves
    server = EmbeddedPostgres.start(settings.data_dir)
    try:
        yield server.url
    finally:
        server.stop()


@contextlib.contextmanager
def database_beside_proxy(settings: Settings, *, may_make: bool = False) -> Iterator[str]:
    """The database of a proxy that may be running. `may_make`: make the embedded one where there is none; else that raises
    `StartupError`, as does an embedded server that can't be started."""
    if settings.database_url is None:
        if running := EmbeddedPostgres.url_of_running(settings.data_dir):
            yield running
            return
        if not may_make and not (settings.data_dir / "postgres").exists():
            raise StartupError(f"there is no database in DATA_DIR ({settings.data_dir}); `billing-proxy migrate` makes one")
    with own_database(settings) as url:
        yield url
