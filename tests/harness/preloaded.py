"""Processes of the proxy that start in a third of the time: forked from one, of each test process, that has imported the
program and done nothing else. What a start imports takes longer than all else that it does, and tests start a hundred.

    process = start(None, ["serve"], environment=..., directory=..., log=...)     # like `subprocess.Popen`

That one is single-threaded, and holds no connection, event loop or random state that its children would share. How an
operator's start goes, from the interpreter on, is what `tests/cli` is about.
"""

import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from queue import Queue
from typing import Any, NoReturn

from sqlalchemy.orm import configure_mappers

import app.cli.audit
import app.cli.main
import app.cli.prices
import app.cli.start  # what `serve` imports
from app.catalog.price_catalogue import list_price

_ROOT = Path(__file__).parents[2]


class Process:
    """As much of `subprocess.Popen` as tests need."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = threading.Event()

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def ended(self, code: int) -> None:
        self.returncode = code
        self._ended.set()


class _Preloaded:
    """The one that is forked. It ends with the test process."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "tests.harness.preloaded", str(theirs.fileno())]
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment, cwd=_ROOT, stdin=subprocess.DEVNULL)
        theirs.close()
        self._started: Queue[Process] = Queue()
        self._one_at_a_time = threading.Lock()
        threading.Thread(target=self._listen, daemon=True, name="preloaded").start()

    def start(self, request: dict[str, Any]) -> Process:
        with self._one_at_a_time:
            self._ours.sendall(json.dumps(request).encode() + b"\n")
            return self._started.get(timeout=60)

    def _listen(self) -> None:
        alive: dict[int, Process] = {}
        for line in self._ours.makefile("r"):
            pid, code = json.loads(line)
            if code is None:
                alive[pid] = Process(pid)
                self._started.put(alive[pid])
            else:
                alive.pop(pid).ended(code)


_preloaded: list[_Preloaded] = []


def start(
    module: str | None, arguments: list[str], *, environment: dict[str, str], directory: Path, log: Path, errors: Path | None = None
) -> Process:
    """`module` is run as `python -m` runs it; None: `billing-proxy`. What it prints is appended to `log`, or what goes to standard
    error to `errors`."""
    if not _preloaded:
        _preloaded.append(_Preloaded(environment))
    places = {"directory": directory, "log": log, "errors": errors or log}
    request = {"module": module, "arguments": arguments, "environment": environment} | {name: str(place) for name, place in places.items()}
    return _preloaded[0].start(request)


def run(arguments: list[str], *, environment: dict[str, str], directory: Path) -> subprocess.CompletedProcess[str]:
    """`billing-proxy` with these, to its end."""
    with tempfile.TemporaryDirectory() as place:
        out, errors = Path(place, "out"), Path(place, "errors")
        process = start(None, arguments, environment=environment, directory=directory, log=out, errors=errors)
        try:
            code = process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return subprocess.CompletedProcess(["billing-proxy", *arguments], code, out.read_text(), errors.read_text())


def _fork_as_asked(connection: socket.socket) -> dict[str, Any]:
    """Returns in each child, with what was asked for. Ends where nobody asks any more."""
    woken, wakes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    requests = connection.makefile("rb")
    while True:
        ready, _, _ = select.select([connection, woken], [], [])
        if woken in ready:
            os.read(woken, 1000)
            _tell_who_ended(connection)
        if connection in ready:
            if not (line := requests.readline()):
                sys.exit(0)
            if (pid := os.fork()) == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                requests.close()
                connection.close()
                return dict(json.loads(line))
            _tell(connection, pid, None)


def _tell_who_ended(connection: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _tell(connection, pid, os.waitstatus_to_exitcode(status))


def _tell(connection: socket.socket, pid: int, code: int | None) -> None:
    connection.sendall(json.dumps([pid, code]).encode() + b"\n")


def _become(request: dict[str, Any]) -> None:
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["directory"])
    for number, place in ((1, request["log"]), (2, request["errors"])):
        file = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(file, number)
        os.close(file)
    sys.argv = ["billing-proxy", *request["arguments"]]
    if request["module"] is None:
        app.cli.main.main()
    else:
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


def _end(code: object) -> NoReturn:
    """Without taking the interpreter apart, which takes as long as a short command."""
    if isinstance(code, str):
        sys.stderr.write(f"{code}\n")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    list_price("openai", "gpt-4o")  # reads the catalogue
    configure_mappers()
    gc.freeze()
    asked = _fork_as_asked(socket.socket(fileno=int(sys.argv[1])))
    try:
        _become(asked)
    except SystemExit as ended:
        _end(ended.code)
    _end(None)
