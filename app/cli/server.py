"""The server itself: one process, or `WORKERS` of them under a parent that watches over them."""

import os
import shutil
import socket
import sys
import time
from threading import Thread

import httpx
import structlog
import uvicorn
from rich.console import Console
from rich.markup import escape
from starlette.types import ASGIApp
from uvicorn.supervisors import Multiprocess

from app.api.behind_proxies import behind_proxies
from app.api.cors import for_browsers
from app.api.data_plane import data_plane_first
from app.api.two_ports import two_ports
from app.cli.http_protocol import HttpProtocol, LimitedConfig, Limits
from app.cli.standard_output import OutputLostError
from app.errors import StartupError
from app.main import create_app
from app.metrics.shared import share_among_workers
from app.runtime.ending import before_ending, watch_over_workers
from app.runtime.secrets_file import NAME
from app.settings import Settings

log = structlog.get_logger(__name__)

READY_POLL = 0.1
"""Seconds."""
WORKER_WAIT = 60
"""Seconds in which a worker answers the process that watches over it, or is killed and replaced, calls and all. On a busy machine
it takes many to import the program, and a machine that was paused may take as many to go on."""
DEMO_SECRET = "BILLING_PROXY_DEMO_SECRET"  # noqa: S105 (a name)


def app_of_worker() -> ASGIApp:
    """What uvicorn calls in each serving process."""
    settings = Settings.load()
    app = data_plane_first(create_app(settings, demo_secret=os.environ.get(DEMO_SECRET)))
    if settings.admin_port is not None:
        app = two_ports(app, admin_port=settings.admin_port)
    if settings.cors_origins:
        app = for_browsers(app, settings.cors_origins)
    if settings.trusted_proxies:
        app = behind_proxies(app, settings.trusted_proxies, header=settings.forwarded_header)
    return app


def run(settings: Settings, listeners: list[socket.socket], demo_key: str | None) -> None:
    """Returns when the last call has ended."""
    config = LimitedConfig(
        "app.cli.server:app_of_worker",
        factory=True,
        workers=settings.workers,
        loop="uvloop",
        http=HttpProtocol,
        ws="none",
        lifespan="on",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=int(settings.shutdown_wait),
        timeout_worker_healthcheck=WORKER_WAIT,
        log_level="warning",
        limits=Limits(connections=settings.max_connections, patience=settings.request_wait),
    )
    watch_over_workers()
    if settings.workers > 1:
        counts = share_among_workers(settings.data_dir)
        Thread(target=_announce_when_ready, args=(settings, demo_key), daemon=True).start()
        workers = _Workers(config, sockets=listeners)
        before_ending(lambda _: None)
        workers.run()
        shutil.rmtree(counts, ignore_errors=True)
        return
    server = _AnnouncingServer(config, settings, demo_key)
    server.run(sockets=listeners)
    if not server.started:
        raise StartupError("the server did not start; the lines above say why")


def own_url(settings: Settings) -> str:
    """Under which this machine reaches the server."""
    return _url(settings.host, settings.port)


def admin_url(settings: Settings) -> str:
    """Where operators' routes are."""
    return _url(settings.admin_host or settings.host, settings.admin_port or settings.port)


def _url(host: str, port: int) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (compared, not bound)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Workers(Multiprocess):
    """Replaces workers that have died at once, and looks for those that hang now and then: whoever waits for an answer neither hears
    a signal nor sees another one die.

    Gives the port back when the workers do, which else would seem to listen until the last call has ended: who connects then
    is to be refused, and asks another replica."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket]) -> None:
        super().__init__(config, sockets)
        self._next_look = time.monotonic() + WORKER_WAIT

    def keep_subprocess_alive(self) -> None:
        if time.monotonic() >= self._next_look or not all(worker.process.is_alive() for worker in self.processes):
            super().keep_subprocess_alive()
            self._next_look = time.monotonic() + WORKER_WAIT

    def terminate_all(self) -> None:
        super().terminate_all()
        for listener in self.sockets:
            listener.close()


class _AnnouncingServer(uvicorn.Server):
    """Says where it is once it listens."""

    def __init__(self, config: uvicorn.Config, settings: Settings, demo_key: str | None) -> None:
        super().__init__(config)
        self._settings = settings
        self._demo_key = demo_key

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            _announce(self._settings, self._demo_key)


def _announce_when_ready(settings: Settings, demo_key: str | None) -> None:
    """Workers are processes of their own: what tells that they serve is an answer."""
    with httpx.Client(base_url=own_url(settings), trust_env=False) as client:
        while True:
            try:
                client.get("/healthz", timeout=1)
            except httpx.HTTPError:
                time.sleep(READY_POLL)
            else:
                _announce(settings, demo_key)
                return


def _announce(settings: Settings, demo_key: str | None) -> None:
    """A disk that is full of output stops no proxy."""
    try:
        _print_places(settings, demo_key)
    except OutputLostError as lost:
        log.warning("where this proxy is can't be printed", reason=lost.reason)


def _print_places(settings: Settings, demo_key: str | None) -> None:
    """The demo key is shown on a terminal alone: elsewhere it would end in somebody's logs."""
    console = Console(soft_wrap=True, highlight=False)
    base = own_url(settings)
    console.print(f"\n[bold]aigcspace billing proxy[/] is ready\n  base URL   {base}/v1")
    console.print(f"  dashboard  {admin_url(settings)}/dashboard\n  API docs   {admin_url(settings)}/docs")
    secrets_file = settings.data_dir / NAME
    if secrets_file.exists():
        console.print(f"  secrets    {escape(str(secrets_file))} (admin token" + (", demo key)" if demo_key else ")"))
    if demo_key and sys.stdout.isatty():
        console.print(f"  demo key   {demo_key}\n\nTry it:\n")
        body = '{"model": "demo-echo", "messages": [{"role": "user", "content": "Hello there"}]}'
        console.print(
            f"curl {base}/v1/chat/completions -H 'Authorization: Bearer {demo_key}' -H 'Content-Type: application/json' -d '{body}'\n",
            markup=False,
        )
    console.print("Stop with Ctrl-C.")
