"""The embedded PostgreSQL: a real server under DATA_DIR, started and stopped with the proxy.

One proxy at a time: `DATA_DIR/lock` is held as long as this process lives, and names it. The server listens on a unix
socket alone. It has its own session, so that Ctrl-C reaches the proxy first, which stops it when it is done; if the
proxy is killed instead, the kernel tells the server to end (Linux), and the next start ends one that still runs
(everywhere).

Whatever is in the way becomes a `StartupError` of one line. If the server ends on its own later, its log in
`DATA_DIR/postgres/log` says why, and the proxy sees a database that is away.
"""

import contextlib
import fcntl
import os
import socket
import subprocess
import time
from pathlib import Path
from typing import Literal, Self

from app.errors import StartupError
from app.runtime import service_user
from app.runtime.postgres_cluster import (
    NAME,
    Owner,
    Programs,
    check_version,
    create,
    names_error,
    socket_directory,
    socket_path,
    telling_line,
)
from app.runtime.postgres_process import POLL, end_orphan, false_matches, shut_down

PORT = "5432"
"""Only part of the socket's name; said in the URL too, where PGPORT would else change it."""

START_LIMIT = 30.0
RECOVERY_LIMIT = 300.0
"""As long as the server says that it is replaying its log after a crash."""

OTHERS_LIMIT = 15.0
"""For the last processes of a killed server, which still hold its shared memory."""

LOG_AGE = 6 * 86_400.0

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
    # One file for each day of the week, overwritten a week later; `_forget_old_logs` does so for a server that is off.
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
        self._early_log = self._data_dir / "postgres-start.log"
        self._lock: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._sockets: Path | None = None
        self.first_start = False

    @classmethod
    def start(cls, data_dir: Path) -> Self:
        """Returns once the server takes connections; call it in the main thread, whose end is the server's end."""
        server = cls(data_dir)
        try:
            server._start()
        except OSError as refused:
            server.stop()
            raise StartupError(
                f"the embedded PostgreSQL can't use DATA_DIR ({data_dir}): {refused}; set another, or DATABASE_URL"
            ) from refused
        except BaseException:
            server.stop()
            raise
        return server

    @property
    def url(self) -> str:
        return _url(self._sockets)

    @staticmethod
    def url_of_running(data_dir: Path) -> str | None:
        """The server that a proxy runs on `data_dir` at the moment, for programs beside it."""
        data = data_dir.resolve() / "postgres"
        if not data.exists():
            return None
        sockets = socket_path(data, Owner.of(data))
        return _url(sockets) if _ask(f"{sockets}/.s.PGSQL.{PORT}") == "ready" else None

    def stop(self) -> None:
        """Ends the server and waits for it, at most 45 s; then frees DATA_DIR. Does nothing the second time."""
        process, self._process = self._process, None
        if process is not None:
            shut_down(process.pid, lambda: process.poll() is None)
        sockets, self._sockets = self._sockets, None
        if sockets is not None:
            with contextlib.suppress(OSError):  # a server that had to be killed leaves its socket there
                sockets.rmdir()
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
            self._forget_old_logs()
        else:
            create(self._data, programs, owner)
            self.first_start = True
        self._sockets = socket_directory(self._data, owner)
        patience = time.monotonic() + OTHERS_LIMIT
        while (refusal := self._launch(programs, owner)) is not None:
            if "shared memory block" not in refusal or time.monotonic() > patience:
                raise StartupError(f"the embedded PostgreSQL did not start: {refusal} (log: {self._data}/log)")
            time.sleep(POLL)

    def _launch(self, programs: Programs, owner: Owner) -> str | None:
        """None once the server takes connections, or the reason for which it ended."""
        settings = SETTINGS | {"unix_socket_directories": str(self._sockets)}
        program = [str(programs.bin / "postgres"), "-D", str(self._data)]
        program += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        written = {path: path.stat().st_size for path in self._logs()}
        with self._early_log.open("wb") as log:
            self._process = subprocess.Popen(
                service_user.command(program, uid=owner.uid, gid=owner.gid, data=str(self._data)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=owner.environment() | false_matches(self._data),
                start_new_session=True,
            )
        return self._wait_until_ready(self._process, written)

    def _wait_until_ready(self, process: subprocess.Popen[bytes], written: dict[Path, int]) -> str | None:
        waited_since = time.monotonic()
        while process.poll() is None:
            answer = _ask(f"{self._sockets}/.s.PGSQL.{PORT}")
            if answer == "ready":
                return None
            limit = RECOVERY_LIMIT if answer == "recovering" else START_LIMIT
            waited = time.monotonic() - waited_since
            if waited > limit:
                return f"no connection within {limit:.0f} s; {self._last_words(written)}"
            # A long recovery logs every question: ask less often then.
            time.sleep(POLL if waited < 2.0 else 0.5)
        return self._last_words(written)

    def _last_words(self, written: dict[Path, int]) -> str:
        """Why it did not start: what it said at once, and what its log has beyond the sizes `written` before."""
        deadline = time.monotonic() + 1.0
        while True:
            said = self._early_log.read_text(errors="replace")
            for path in self._logs():
                said += path.read_bytes()[written.get(path, 0) :].decode(errors="replace")
            # The server's log is written by a process of its own, which may end after it.
            if names_error(said) or time.monotonic() > deadline:
                return telling_line(said)
            time.sleep(POLL)

    def _logs(self) -> list[Path]:
        return sorted(self._data.glob("log/*.log"))

    def _forget_old_logs(self) -> None:
        for path in self._logs():
            if time.time() - path.stat().st_mtime > LOG_AGE:
                path.unlink()


def _url(sockets: Path | None) -> str:
    return f"postgresql+asyncpg://{NAME}@/{NAME}?host={sockets}&port={PORT}"


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


def _ask(path: str) -> Literal["ready", "recovering", "silent"]:
    """Opens a session as a client would: https://www.postgresql.org/docs/18/protocol-message-formats.html."""
    start = b"\0\x03\0\0" + f"user\0{NAME}\0database\0{NAME}\0\0".encode()
    with socket.socket(socket.AF_UNIX) as connection, connection.makefile("rb") as replies:
        connection.settimeout(1.0)
        try:
            connection.connect(path)
            connection.sendall((len(start) + 4).to_bytes(4) + start)
            while kind := replies.read(1):
                content = replies.read(int.from_bytes(replies.read(4)) - 4)
                if kind == b"Z":
                    connection.sendall(b"X\0\0\0\4")
                    return "ready"
                if kind == b"E":
                    return _refusal(content)
        except OSError:
            pass
    return "silent"


def _refusal(content: bytes) -> Literal["recovering"]:
    fields = {field[:1]: field[1:].decode(errors="replace") for field in content.split(b"\0") if field}
    if fields.get(b"C") == "57P03":  # cannot_connect_now
        return "recovering"
    raise StartupError(f"the embedded PostgreSQL refuses connections: {fields.get(b'M')}")
