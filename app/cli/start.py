"""What `billing-proxy serve` does: from nothing to a server that answers.

The parent process owns the embedded PostgreSQL, migrates, and makes what a first start needs; then it serves itself, or
watches over `WORKERS` processes that do. What they need to know they get through the environment.
"""

import asyncio
import hashlib
import os
import resource
import signal
import socket
import sys
from contextlib import ExitStack

from rich.console import Console

from app.catalog.first_start import add_providers, is_empty, make_demo, move_demo
from app.catalog.vault import Vault
from app.cli.database import own_database
from app.cli.server import DEMO_SECRET, own_url, run
from app.dashboard.assets import charts_file
from app.database import Database
from app.errors import StartupError
from app.runtime.demo_model import PATH
from app.runtime.migrations import upgrade
from app.runtime.platform_keys import PlatformKeys
from app.runtime.secrets_file import add_secrets, generate, read_secrets
from app.settings import Settings

ENDING = (signal.SIGINT, signal.SIGTERM)
DEMO_KEY = "DEMO_API_KEY"
OTHER_FILES = 500
"""Open files that are no connection of a client or to an upstream."""


def serve(settings: Settings) -> None:
    """Returns when the server has stopped. Raises `StartupError`."""
    for number in ENDING:
        signal.signal(number, _exit)
    charts_file()  # now, as a worker that can't find it would be started again and again
    _allow_files(2 * settings.max_connections + OTHER_FILES)
    listeners = _listeners(settings)
    with ExitStack() as ports, own_database(settings) as url:
        for listener in listeners:
            ports.enter_context(listener)
        _share(_with_secrets(settings), url)
        upgrade(url, platform_keys=PlatformKeys.of(settings))
        ready = Settings.load(host=settings.host, port=settings.port)
        demo_key = asyncio.run(_first_start(ready, is_embedded=settings.database_url is None))
        run(ready, listeners, demo_key)


def _allow_files(wanted: int) -> None:
    """Shells and services start programs with few open files, and let them have more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if allowed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        Console(stderr=True).print(
            f"Only {allowed} files may be open at once, and MAX_CONNECTIONS may need {wanted}: raise the limit (ulimit -n), or lower it."
        )


def _exit(_signal: int, _frame: object) -> None:
    """Ends by way of the `finally` blocks, so that the database is stopped too, which another signal must not interrupt.
    While it serves, uvicorn's own handler stands before this one: it lets the calls end first, and then raises the signal
    again."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
    sys.exit(0)


def _listeners(settings: Settings) -> list[socket.socket]:
    """Takes the ports first, so that one that is taken is said before anything else happens."""
    listeners = [_listen(settings.host, settings.port, "PORT or HOST")]
    if settings.admin_port is not None:
        listeners.append(_listen(settings.admin_host or settings.host, settings.admin_port, "ADMIN_PORT or ADMIN_HOST"))
    return listeners


def _listen(host: str, port: int, names: str) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as refused:
        reason = os.strerror(refused.errno) if refused.errno else str(refused)
        raise StartupError(f"can't listen on {host}:{port} ({reason}): set another {names}") from refused
    listener.set_inheritable(True)
    return listener


def _with_secrets(settings: Settings) -> dict[str, str]:
    """ADMIN_TOKEN and SECRET_KEY: as set, else as generated once and kept in `DATA_DIR/secrets.env`."""
    kept = read_secrets(settings.data_dir)
    given = {"ADMIN_TOKEN": settings.admin_token, "SECRET_KEY": settings.secret_key}
    missing = {name: generate() for name, value in given.items() if value is None and name not in kept}
    if missing:
        add_secrets(settings.data_dir, missing)
    return {name: value.get_secret_value() if value else (kept | missing)[name] for name, value in given.items()}


def _share(secrets: dict[str, str], url: str) -> None:
    """Workers are started anew, so that the environment is what reaches them."""
    os.environ.update(secrets, DATABASE_URL=url)
    os.environ[DEMO_SECRET] = hashlib.sha256(f"demo {secrets['SECRET_KEY']}".encode()).hexdigest()


STARTING = "start"
"""Who has made the demo and the providers, to the audit entries."""


async def _first_start(settings: Settings, *, is_embedded: bool) -> str | None:
    """Makes the demo on an empty embedded database, and adds providers. Returns the demo's key, while there is a demo."""
    assert settings.database_url is not None
    database = Database(settings.database_url, pool_size=2)
    vault = Vault.of(settings)
    base_url, secret = own_url(settings) + PATH, os.environ[DEMO_SECRET]
    try:
        async with database.transaction(actor=STARTING) as session:
            if is_embedded and await is_empty(session):
                add_secrets(settings.data_dir, {DEMO_KEY: await make_demo(session, vault=vault, base_url=base_url, secret=secret)})
            has_demo = is_embedded and await move_demo(session, vault=vault, base_url=base_url, secret=secret)
            for name in await add_providers(session, vault=vault, currency=settings.currency):
                Console(stderr=True).print(f"Added the upstream [bold]{name}[/], whose API key is in the environment.")
    finally:
        await database.close()
    if not has_demo:
        os.environ.pop(DEMO_SECRET)
        return None
    return read_secrets(settings.data_dir).get(DEMO_KEY)
