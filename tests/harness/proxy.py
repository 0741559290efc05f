"""The proxy under test: a real process, with nothing of our own environment but what is named."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import httpx

from tests.harness.preloaded import Process, start
from tests.harness.tls import NO_TLS

COMMAND = (str(Path(sys.executable).parent / "billing-proxy"),)
ADMIN_TOKEN = "admin-token-of-the-tests"
SECRET_KEY = "secret-key-of-the-tests-0123456789"

running: list["Proxy"] = []


def bare_environment() -> dict[str, str]:
    """Without provider keys, proxies or settings that happen to be set where the tests run."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "VIRTUAL_ENV", "COVERAGE_PROCESS_START")
    return {name: os.environ[name] for name in kept if name in os.environ} | {"PYTHONUNBUFFERED": "1"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def refuses(port: int) -> bool:
    """Whether nobody listens there."""
    try:
        with socket.create_connection(("127.0.0.1", port), 2):
            return False
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # whoever listened is closing: it is asked again
        return False


def start_fresh(
    module: str | None, arguments: list[str], *, environment: dict[str, str], directory: Path, log: Path
) -> "subprocess.Popen[bytes] | Process":
    command = COMMAND if module is None else (sys.executable, "-m", module)
    with log.open("wb") as output:
        return subprocess.Popen(
            [*command, *arguments],
            env=environment,
            cwd=directory,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )


class Proxy:
    """`url` is its root; `output()` all it has printed so far; `data` its `DATA_DIR`. `module`: what to run in place of `billing-proxy`;
    `is_fresh`: in an interpreter that has imported nothing yet."""

    def __init__(self, *, database_url: str, directory: Path, module: str | None = None, is_fresh: bool = False, **settings: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        directory.mkdir(parents=True, exist_ok=True)
        self.data = Path(settings.get("DATA_DIR", directory / f"data-{self.port}"))
        self._log = directory / f"proxy-{self.port}.log"
        environment = bare_environment() | {
            "DATABASE_URL": database_url,
            "ADMIN_TOKEN": ADMIN_TOKEN,
            "SECRET_KEY": SECRET_KEY,
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "DATA_DIR": str(self.data),
            "ADMIT_WAIT": "10",  # the disks of a busy machine may stall for seconds
            "GUESSES_PER_MINUTE": "0",  # all tests come from one address
            "UPSTREAM_RETRIES": "0",  # what a test scripts is for one attempt
            **settings,
        }
        begin = start_fresh if is_fresh else start
        self.process = begin(module, ["serve"], environment=environment, directory=directory, log=self._log)
        running.append(self)

    def wait_ready(self, within: float = 60.0) -> Self:
        deadline = time.monotonic() + within
        with httpx.Client(trust_env=False, verify=NO_TLS, timeout=2) as client:
            while time.monotonic() < deadline:
                if self.process.poll() is not None:
                    raise AssertionError(f"the proxy ended with {self.process.returncode} at its start:\n{self.output()}")
                try:
                    if client.get(f"{self.url}/readyz").status_code == 200:
                        return self
                except httpx.TransportError:
                    pass
                time.sleep(0.05)
        raise AssertionError(f"the proxy wasn't ready within {within} s:\n{self.output()}")

    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def stop(self, within: float = 40.0) -> int:
        """SIGTERM, as an operator's `systemctl stop`; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
            raise AssertionError(f"the proxy didn't stop within {within} s of SIGTERM:\n{self.output()}") from None
        finally:
            running.remove(self)
