"""A PostgreSQL of the test's own, that it may crash: stopped at once, or killed, and started again on the same address.

It is the embedded server with the settings that operators get, fsync among them, in a directory of its own, or in one
that the test gives, such as a small tmpfs. As root it runs as another user, as the embedded one does. It listens on a
unix socket; a `DatabaseRelay` before it gives it a port.
"""

import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import psutil
from sqlalchemy import URL, make_url

from app.runtime import service_user
from app.runtime.postgres import PORT, SETTINGS
from app.runtime.postgres_cluster import NAME, Owner, Programs, create, socket_directory
from app.runtime.postgres_process import false_matches, shut_down
from tests.harness.background import Background
from tests.harness.books import wait_until
from tests.harness.postgres import Database, connect, migrate

T = TypeVar("T")
_NO_SESSION = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.TooManyConnectionsError,
)


class Reconnecting(Database):
    """Opens its connection anew when the server has gone and come back, for which it waits. A query is asked again if its
    answer was lost; what `execute` does is not done twice, and raises then."""

    PATIENCE = 20.0

    def fetch(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        return self._asking(lambda: super(Reconnecting, self).fetch(sql, *values))

    def value(self, sql: str, *values: Any) -> Any:
        return self._asking(lambda: super(Reconnecting, self).value(sql, *values))

    def execute(self, sql: str, *values: Any) -> None:
        self._reconnect()
        super().execute(sql, *values)

    def close(self) -> None:
        self._background.run(_call(self._connection.terminate))

    def _asking(self, ask: Callable[[], T]) -> T:
        deadline = time.monotonic() + self.PATIENCE
        while True:
            self._reconnect()
            try:
                return ask()
            except _NO_SESSION:
                if time.monotonic() > deadline:
                    raise
                self.close()

    def _reconnect(self) -> None:
        deadline = time.monotonic() + self.PATIENCE
        while self._connection.is_closed():
            try:
                self._connection = self._background.run(connect(make_url(self.url)))
            except _NO_SESSION:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)


class OwnPostgres:
    """Commands block until they are done. They work from any thread."""

    def __init__(self, directory: Path, **settings: str) -> None:
        """Makes the data in `directory`, which must exist; `settings` as in postgresql.conf."""
        self._programs = Programs.shipped()
        self._data = directory.resolve() / "postgres"
        self._owner = Owner.of(self._data)
        self._settings = SETTINGS | {"logging_collector": "off", "shared_buffers": "32MB"} | settings
        self._process: subprocess.Popen[bytes] | None = None
        # the server ends with the thread that started it
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="own-postgres")
        create(self._data, self._programs, self._owner)
        self._sockets = socket_directory(self._data, self._owner)
        self._log = directory.resolve() / "postgres.log"
        self.url = f"postgresql+asyncpg://{NAME}@/{NAME}?host={self._sockets}&port={PORT}"

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def start(self, *, within: float = 60.0, **settings: str) -> None:
        """Returns when it takes connections, after its recovery if it was killed. `settings` hold from now on."""
        assert not self.is_running
        self._settings |= settings
        self._process = self._starter.submit(self._spawn).result(10)
        with closing(Background()) as background:
            wait_until(lambda: self._answers(background), what="PostgreSQL takes connections", within=within)

    def stop(self) -> None:
        """Fast: the sessions end, the data is put in order."""
        self._end(signal.SIGINT)

    def stop_immediately(self) -> None:
        """As `pg_ctl stop -m immediate`: what is not in its log is lost, and the next start recovers."""
        self._end(signal.SIGQUIT)

    def kill(self) -> None:
        """SIGKILL to all of its processes, as the kernel does it when memory is out, or a power cut but for the disk."""
        assert self._process is not None
        server = psutil.Process(self._process.pid)
        server.suspend()  # it starts no other child any more
        family = [*server.children(recursive=True), server]
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait(10)
        wait_until(lambda: not any(map(_is_alive, family)), what="all processes of PostgreSQL are gone")

    def close(self) -> None:
        process = self._process
        if process is not None:
            shut_down(process.pid, lambda: process.poll() is None)
        self._starter.shutdown()
        for leftover in self._sockets.glob(".s.PGSQL.*"):
            leftover.unlink()
        self._sockets.rmdir()

    def _end(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(30)

    def _spawn(self) -> subprocess.Popen[bytes]:
        settings = self._settings | {"unix_socket_directories": str(self._sockets)}
        program = [str(self._programs.bin / "postgres"), "-D", str(self._data)]
        program += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            return subprocess.Popen(
                service_user.command(program, uid=self._owner.uid, gid=self._owner.gid, data=str(self._data)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=self._owner.environment() | false_matches(self._data),
                start_new_session=True,
            )

    def _answers(self, background: Background) -> bool:
        assert self.is_running, f"PostgreSQL did not start:\n{self.log()}"
        try:
            connection = background.run(connect(make_url(self.url)))
        except asyncpg.TooManyConnectionsError:
            return True  # others were faster, and have them all
        except _NO_SESSION:
            return False
        background.run(connection.close())
        return True


@contextmanager
def own_postgres(*, directory: Path | None = None, migrated: bool = True, **settings: str) -> Iterator[OwnPostgres]:
    """Running, with the schema of the migrations."""
    with tempfile.TemporaryDirectory(prefix="proxy-own-pg-", ignore_cleanup_errors=True) as place:
        server = OwnPostgres(directory or Path(place), **settings)
        try:
            server.start()
            if migrated:
                migrate(server.url)
            yield server
        finally:
            server.close()


@contextmanager
def reconnecting(background: Background, url: str | URL) -> Iterator[Reconnecting]:
    database = Reconnecting(background, make_url(url))
    try:
        yield database
    finally:
        database.close()


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def _call(then: Callable[[], None]) -> None:
    then()
