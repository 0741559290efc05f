"""Servers as processes: which one serves a data directory, and how it is ended.

After a crash the number in `postmaster.pid` proves nothing: it may be another process's by now.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from app.errors import StartupError

POLL, AGAIN = 0.02, 0.5
SHUTDOWN = ((signal.SIGINT, 30.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 5.0))
"""Fast, then immediate (recovers at the next start), then by the kernel; each with its patience in seconds."""


def false_matches(data: Path) -> dict[str, str]:
    """After a crash `postmaster.pid` stays, and its number may be another process's by now.

    With `end_orphan` done it can't be a server of `data`. PostgreSQL is told so in the way that `pg_ctl` has for it,
    rather than by deleting the file, which also tells it of orphaned backends that still use the shared memory.
    """
    pid = _recorded_pid(data)
    return {} if pid is None else {"PG_GRANDPARENT_PID": str(pid)}


def end_orphan(data: Path) -> None:
    pid = _recorded_pid(data)
    if pid is not None and not shut_down(pid, lambda: _serves(pid, data)):
        raise StartupError(f"PostgreSQL (pid {pid}) of an earlier run on {data} can't be ended: end it")


def _recorded_pid(data: Path) -> int | None:
    try:
        return int((data / "postmaster.pid").read_text().split()[0])
    except (FileNotFoundError, ValueError, IndexError):
        return None


def _serves(pid: int, data: Path) -> bool:
    """Whether the process is a server of `data`; a number alone proves nothing, nor does a process not yet reaped."""
    if sys.platform == "linux":
        try:
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            return False
        return arguments[0].endswith(b"/bin/postgres") and os.fsencode(data) in arguments
    said = subprocess.run(["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return f"/bin/postgres -D {data} " in said.stdout


def shut_down(pid: int, runs: Callable[[], bool]) -> bool:
    """Whether the process has ended. Signals are repeated: PostgreSQL doesn't mind, and an interpreter that is about to become it
    (`service_user`) loses those that find it starting."""
    for number, patience in SHUTDOWN:
        deadline, signal_at = time.monotonic() + patience, 0.0
        while runs() and (now := time.monotonic()) < deadline:
            if now >= signal_at:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
                signal_at = now + AGAIN
            time.sleep(POLL)
    return not runs()
