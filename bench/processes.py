"""Processes that the bench starts, and what they cost. Ends only these, by their id, and what they themselves started.

`Failure` is raised for what makes a benchmark impossible; its message is what the person at the terminal sees.
"""

import contextlib
import os
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil  # type: ignore[import-untyped]

_LAST_PATIENCE = 10.0
_LOG_LINES = 20


class Failure(Exception):
    """The benchmark can't go on."""


class Cost(NamedTuple):
    """CPU seconds (user and system) so far, and resident bytes now. `postgres` is zero where none of it is a child."""

    proxy: float
    postgres: float
    rss: int


class Child:
    """A process in a session of its own, so that Ctrl-C reaches the bench alone and the order of ending stays ours."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        patience: float = 5.0,
    ) -> None:
        """`patience` is how many seconds it has to end when asked to."""
        self._log = log
        self._patience = patience
        with log.open("wb") as output:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=env,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    def last_words(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-_LOG_LINES:])

    def first_line(self) -> str:
        """What it printed first, once that line is whole; empty before."""
        line, end, _ = self._log.read_text(errors="replace").partition("\n")
        return line if end else ""

    def descendants(self) -> list[psutil.Process]:
        try:
            found: list[psutil.Process] = psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        return found

    def wait(self, seconds: float) -> int | None:
        """Its exit status, or None if it still runs after `seconds`."""
        try:
            return self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def stop(self) -> None:
        """Asks, waits, kills; then the same for descendants that outlived it. Does nothing for one that has ended."""
        family = self.descendants()
        if self.running:
            self._popen.terminate()
            if self.wait(self._patience) is None:
                self._popen.kill()
                self._popen.wait()
        left = [process for process in family if process.is_running()]
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        _, left = psutil.wait_procs(left, timeout=_LAST_PATIENCE)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def cost_of(child: Child) -> Cost:
    """PostgreSQL's processes are told by their name; what their ended children used is counted with their parent."""
    proxy = postgres = 0.0
    rss = 0
    for process in (psutil.Process(child.pid), *child.descendants()):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            times = process.cpu_times()
            if process.name() == "postgres":
                postgres += times.user + times.system + times.children_user + times.children_system
            else:
                proxy += times.user + times.system
                rss += process.memory_info().rss
    return Cost(proxy, postgres, rss)


def memory_of(child: Child) -> int:
    """Bytes that the proxy's processes alone hold; all that is resident where the system doesn't tell these apart."""
    held = 0
    for process in (psutil.Process(child.pid), *child.descendants()):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if process.name() != "postgres":
                memory = process.memory_full_info()
                held += getattr(memory, "uss", memory.rss)
    return held


def postgres_program(child: Child) -> Path | None:
    """The program file of the PostgreSQL among the descendants."""
    for process in child.descendants():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.name() == "postgres":
                return Path(process.exe())
    return None


def file_system_of(path: Path) -> str:
    mounts = [mount for mount in psutil.disk_partitions(all=True) if path.resolve().is_relative_to(mount.mountpoint)]
    return str(max(mounts, key=lambda mount: len(mount.mountpoint)).fstype) if mounts else "unknown"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def environment(**overrides: str | None) -> dict[str, str]:
    """Ours with `overrides`; None takes a variable away."""
    merged: dict[str, str | None] = {**os.environ, **overrides}
    return {name: value for name, value in merged.items() if value is not None}
