"""The proxy under test: a real process, started as an operator starts it, with nothing of our own environment but what
is named."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import httpx

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


class Proxy:
    """`url` is its root; `output()` all it has printed so far. `command`: what to start in place of `billing-proxy`."""

    def __init__(self, *, database_url: str, directory: Path, command: Sequence[str] = COMMAND, **settings: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        directory.mkdir(parents=True, exist_ok=True)
        self._log = directory / f"proxy-{self.port}.log"
        environment = bare_environment() | {
            "DATABASE_URL": database_url,
            "ADMIN_TOKEN": ADMIN_TOKEN,
            "SECRET_KEY": SECRET_KEY,
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "DATA_DIR": str(directory / f"data-{self.port}"),
            "ADMIT_WAIT": "10",  # the disks of a busy machine may stall for seconds
            "UPSTREAM_RETRIES": "0",  # what a test scripts is for one attempt
            **settings,
        }
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "serve"],
                env=environment,
                cwd=directory,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
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
