"""One server after another on the same data and the same socket: started, waited for, asked for its last words, ended.

`start()` and `wait()` belong to one thread at a time, and `stop()` to any other: once it is called, nothing is started any
more, and what waits here returns. A server that does not start is a `StartupError` with its reason.

A server that is killed leaves its other processes behind, which hold its shared memory, so that no other can start. They
end as soon as they find out; one that is busy does so late, and is killed: nobody can begin anything with it any more.
"""

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from app.errors import StartupError
from app.runtime import service_user
from app.runtime.postgres_cluster import NAME, Owner, Programs, names_error, socket_directory, telling_line
from app.runtime.postgres_process import POLL, false_matches, shut_down
from app.runtime.postgres_socket import ask, socket_file

START_LIMIT = 30.0
RECOVERY_LIMIT = 300.0
"""As long as the server says that it is replaying its log after a crash."""

OTHERS_LIMIT = 15.0
"""For the last processes of an earlier run's server, of which only the shared memory is known."""

LEFT_LIMIT = 2.0
"""For the processes that a server of this run has left behind, until they are killed."""

LATELY = 10.0
"""What a server said before its end: older lines are about something else."""

LAST_BYTES = 65_536
LOG_AGE = 6 * 86_400.0


class Server:
    """`settings` are for the command line. Its processes have the name `cluster_name`, which no other server has."""

    def __init__(self, data: Path, early_log: Path, programs: Programs, owner: Owner, settings: dict[str, str]) -> None:
        self._data = data
        self._early_log = early_log
        self._programs = programs
        self._owner = owner
        self._name = f"{NAME}-{secrets.token_hex(8)}"
        self._settings = settings | {"cluster_name": self._name}
        self._process: subprocess.Popen[bytes] | None = None
        self._written: dict[Path, int] = {}
        self._launching = threading.Lock()
        self._stopping = threading.Event()

    def start(self) -> None:
        """Returns once the server takes connections. Its end is that of the calling thread, which must outlive it."""
        sockets = socket_directory(self._data, self._owner)
        patience = time.monotonic() + OTHERS_LIMIT
        while (refusal := self._launch(sockets)) is not None:
            if "shared memory block" not in refusal or time.monotonic() > patience:
                raise StartupError(f"the embedded PostgreSQL did not start: {refusal} (log: {self._data}/log)")
            self.pause(POLL)

    def wait(self) -> str | None:
        """Until the server has ended on its own: how, and what it said last. None once `stop()` is called."""
        process = self._process
        if process is None:
            return None
        status = process.wait()
        if self._stopping.is_set():
            return None
        self._end_those_left()  # first, since one of them writes its log
        ending = f"signal {-status} ({signal.strsignal(-status)})" if status < 0 else f"status {status}"
        words = ""
        with contextlib.suppress(OSError):
            words = self._said_lately()
        return f"{ending}: {telling_line(words)}" if words else ending

    def pause(self, seconds: float) -> bool:
        """Whether `stop()` was called meanwhile, which ends the pause."""
        return self._stopping.wait(seconds)

    def end(self) -> None:
        """Ends the server, whatever it does at the moment, and waits for it, at most 45 s."""
        with self._launching:
            process, self._process = self._process, None
        if process is not None:
            shut_down(process.pid, lambda: process.poll() is None)
            self._end_those_left()

    def stop(self) -> None:
        """For good. Safe to repeat."""
        self._stopping.set()
        self.end()

    def forget_old_logs(self) -> None:
        for path in self._logs():
            if time.time() - path.stat().st_mtime > LOG_AGE:
                path.unlink()

    def _launch(self, sockets: Path) -> str | None:
        """None once the server takes connections, or the reason for which it ended."""
        settings = self._settings | {"unix_socket_directories": str(sockets)}
        program = [str(self._programs.bin / "postgres"), "-D", str(self._data)]
        program += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self._written = {path: path.stat().st_size for path in self._logs()}
        with self._early_log.open("wb") as log, self._launching:
            if self._stopping.is_set():
                raise StartupError("the embedded PostgreSQL did not start: it is being stopped")
            self._process = process = subprocess.Popen(
                service_user.command(program, uid=self._owner.uid, gid=self._owner.gid, data=str(self._data)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=self._owner.environment() | false_matches(self._data),
                start_new_session=True,
            )
        return self._wait_until_ready(process, socket_file(sockets))

    def _wait_until_ready(self, process: subprocess.Popen[bytes], path: str) -> str | None:
        waited_since = time.monotonic()
        while process.poll() is None:
            says_so = self._says_ready(process.pid)
            answer = ask(path)
            # Right after a crash all clients come at once, and our own question may find no answer in time.
            if answer == "ready" or (answer == "silent" and says_so):
                return None
            limit = RECOVERY_LIMIT if answer == "recovering" else START_LIMIT
            waited = time.monotonic() - waited_since
            if waited > limit:
                return f"no connection within {limit:.0f} s; {self._last_words()}"
            # A long recovery logs every question: ask less often then.
            if self.pause(POLL if waited < 2.0 else 0.5):
                return "it is being stopped"
        return self._last_words()

    def _says_ready(self, pid: int) -> bool:
        """What `pg_ctl` looks at: the last line of the server's file."""
        try:
            said = (self._data / "postmaster.pid").read_text().split()
        except OSError:
            return False
        return said[:1] == [str(pid)] and said[-1:] == ["ready"]

    def _last_words(self) -> str:
        """Why it did not start."""
        deadline = time.monotonic() + 1.0
        while True:
            said = self._early_log.read_text(errors="replace") + self._logged()
            # The server's log is written by a process of its own, which may end after it.
            if names_error(said) or time.monotonic() > deadline or self.pause(POLL):
                return telling_line(said)

    def _logged(self) -> str:
        """The end of what the server wrote since it was started."""
        said = b""
        for path in self._logs():
            with path.open("rb") as log:
                size, start = os.fstat(log.fileno()).st_size, self._written.get(path, 0)
                log.seek(max(start if start <= size else 0, size - LAST_BYTES))  # a week later a file begins anew
                said += log.read()
        return said.decode(errors="replace")

    def _said_lately(self) -> str:
        """Without the answers to those who came too early for it."""
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(time.time() - LATELY))
        lines = [line for line in self._logged().splitlines() if line[: len(since)] >= since]
        return "\n".join(line for line in lines if "FATAL:  the database system is " not in line)

    def _logs(self) -> list[Path]:
        """The newest last."""
        return sorted(self._data.glob("log/*.log"), key=lambda path: path.stat().st_mtime)

    def _end_those_left(self) -> None:
        since = time.monotonic()
        while (left := _processes(self._name)) and (waited := time.monotonic() - since) < 2 * LEFT_LIMIT:
            for pid in left if waited > LEFT_LIMIT else []:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(POLL)


def _processes(name: str) -> list[int]:
    """Those of PostgreSQL that bear the name in their title, or still in the arguments of the server that made them."""
    if sys.platform == "linux":
        listed: list[tuple[str, str]] = []
        for entry in os.listdir("/proc"):  # noqa: PTH208 (numbers are all that is wanted)
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if entry.isdigit():
                    listed.append((entry, Path(f"/proc/{entry}/cmdline").read_text(errors="replace").replace("\0", " ")))
    else:
        said = subprocess.run(["/bin/ps", "-axww", "-o", "pid=,command="], capture_output=True, text=True, check=False)
        listed = [(pid, title) for pid, _, title in (line.strip().partition(" ") for line in said.stdout.splitlines())]
    return [int(pid) for pid, title in listed if name in title and ("/bin/postgres " in title or title.startswith("postgres: "))]
