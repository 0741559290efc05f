"""The embedded PostgreSQL: a real server under DATA_DIR, started and stopped with the proxy.

One proxy at a time: `DATA_DIR/lock` is held as long as this process lives, and names it. The server listens on a unix
socket alone. It has its own session, so that Ctrl-C reaches the proxy first, which stops it when it is done; if the
proxy is killed instead, the kernel tells the server to end (Linux), and the next start ends one that still runs
(everywhere).

Whatever is in the way of a start becomes a `StartupError` of one line. A server that ends on its own later, as it was
killed or crashed, is started again by a thread, on the same socket, as often as it takes; the proxy sees a database that
is away for that long. `DATA_DIR/postgres/log` has all that it said.
"""

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import structlog

from app.errors import StartupError
from app.runtime.postgres_cluster import Owner, Programs, check_version, create, socket_directory, socket_path
from app.runtime.postgres_process import end_orphan
from app.runtime.postgres_server import Server
from app.runtime.postgres_socket import PORT, ask, socket_file, url

log = structlog.get_logger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 30.0
"""Seconds before a second try to start it again, and before the later ones at most; the first try comes at once."""

STEADY = 60.0
"""A server that ran for so many seconds was well."""

# On the command line, where they win over whatever postgresql.conf says: they can't drift from this version.
SETTINGS = {
    "listen_addresses": "",
    "port": PORT,
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "128MB",
    # A row that was acknowledged is money.
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    # Statements are small: compiling or spreading one costs more than it gains, and no report may take all cores.
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    "timezone": "UTC",
    # One file for each day of the week, overwritten a week later; `Server.forget_old_logs` does so for a server that is off.
    "logging_collector": "on",
    "log_directory": "log",
    "log_filename": "postgresql-%a.log",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
    "log_truncate_on_rotation": "on",
    "log_timezone": "UTC",
}


class EmbeddedPostgres:
    """A running server. `url` is for SQLAlchemy with asyncpg; `first_start`: its data was made just now."""

    CONNECTIONS = 90
    """Of `max_connections`, some are left to the operator."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir.resolve()
        self._data = self._data_dir / "postgres"
        self._lock: int | None = None
        self._owner: Owner | None = None
        self._server: Server | None = None
        self._watch: threading.Thread | None = None
        self.first_start = False

    @classmethod
    def start(cls, data_dir: Path) -> Self:
        """Returns once the server takes connections; call it in the main thread, whose end is the server's end."""
        embedded = cls(data_dir)
        try:
            embedded._start()
        except OSError as refused:
            embedded.stop()
            raise StartupError(
                f"the embedded PostgreSQL can't use DATA_DIR ({data_dir}): {refused}; set another, or DATABASE_URL"
            ) from refused
        except BaseException:
            embedded.stop()
            raise
        return embedded

    @property
    def url(self) -> str:
        assert self._owner is not None
        return url(socket_path(self._data, self._owner))

    @staticmethod
    def url_of_running(data_dir: Path) -> str | None:
        """The server that a proxy runs on `data_dir` at the moment, for programs beside it."""
        data = data_dir.resolve() / "postgres"
        if not data.exists():
            return None
        sockets = socket_path(data, Owner.of(data))
        return url(sockets) if ask(socket_file(sockets)) == "ready" else None

    def stop(self) -> None:
        """Ends the server and waits for it, at most 45 s; then frees DATA_DIR. Does nothing the second time."""
        server, self._server = self._server, None
        if server is not None:
            server.stop()
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.join(45.0)
        owner, self._owner = self._owner, None
        if owner is not None:
            with contextlib.suppress(OSError, StartupError):
                socket_directory(self._data, owner).rmdir()  # emptied first: a server that was killed left its socket there
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def _start(self) -> None:
        self._data_dir.mkdir(parents=True, exist_ok=True)
        self._lock = _take_lock(self._data_dir)
        programs = Programs.shipped()
        owner = Owner.of(self._data)
        if self._data.exists():
            check_version(self._data, programs)
            end_orphan(self._data)
        else:
            create(self._data, programs, owner)
            self.first_start = True
        self._owner = owner
        self._server = server = Server(self._data, self._data_dir / "postgres-start.log", programs, owner, SETTINGS)
        server.forget_old_logs()
        server.start()
        watch = threading.Thread(target=_keep_running, args=(server,), name=f"postgres {self._data_dir}", daemon=True)
        watch.start()
        self._watch = watch


def _keep_running(server: Server) -> None:
    """Starts it again whenever it ends, until `server.stop()`. In a thread that lives until then, and so outlives it."""
    pause, since = 0.0, time.monotonic()
    while (ending := server.wait()) is not None:
        _tell(log.error, "the embedded PostgreSQL has ended on its own, and is started again", ending=ending)
        ended_at = time.monotonic()
        if ended_at - since > STEADY:
            pause = 0.0
        while not server.pause(pause):
            pause = min(max(2 * pause, FIRST_PAUSE), LONGEST_PAUSE)
            try:
                server.start()
            except (OSError, StartupError) as failed:
                server.end()
                if not server.pause(0):
                    _tell(log.error, "the embedded PostgreSQL can't be started again so far", reason=str(failed), next_try_in=pause)
            else:
                since = time.monotonic()
                _tell(log.info, "the embedded PostgreSQL takes connections again", seconds=round(since - ended_at, 2))
                break


def _tell(write: Callable[..., None], event: str, **facts: object) -> None:
    with contextlib.suppress(OSError):  # nobody may read the log any more; the server must come back nevertheless
        write(event, **facts)


def _take_lock(data_dir: Path) -> int:
    """A descriptor, since a file object would give the lock back when it is forgotten. No program inherits it."""
    lock = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(lock, 0)
        os.write(lock, str(os.getpid()).encode())
    except BlockingIOError as held:
        holder = os.read(lock, 20).decode()
        os.close(lock)
        raise StartupError(
            f"another billing-proxy (pid {holder}) is running on DATA_DIR {data_dir}; stop it, or set DATA_DIR or DATABASE_URL"
        ) from held
    except OSError:
        os.close(lock)
        raise
    return lock
