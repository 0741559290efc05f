"""`billing-proxy` as on a new machine: in a directory of its own, with the embedded database."""

import signal
import subprocess
import time
from pathlib import Path

import httpx

from tests.harness import preloaded
from tests.harness.proxy import bare_environment, free_port, start_fresh
from tests.harness.tls import NO_TLS

HELLO = {"model": "demo-echo", "messages": [{"role": "user", "content": "Hello there"}]}


class Installation:
    """`start` and `stop` serve, `run` is any other command."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.environment = bare_environment() | {"PORT": str(self.port)}
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", trust_env=False, verify=NO_TLS)
        self.process: subprocess.Popen[bytes] | preloaded.Process | None = None

    def start(self, *, is_fresh: bool = False) -> str:
        """Returns what it printed until it was ready. `is_fresh`: in an interpreter that has imported nothing yet."""
        begin = start_fresh if is_fresh else preloaded.start
        (self.directory / "log").unlink(missing_ok=True)
        self.process = begin(None, ["serve"], environment=self.environment, directory=self.directory, log=self.directory / "log")
        deadline = time.monotonic() + 60
        while not (self.directory / "log").exists():
            time.sleep(0.01)
        while b"Stop with Ctrl-C" not in (printed := (self.directory / "log").read_bytes()):
            assert self.process.poll() is None, printed.decode()
            assert time.monotonic() < deadline, printed.decode()
            time.sleep(0.02)
        return printed.decode()

    def stop(self, number: int = signal.SIGINT) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(40)

    def run(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        return preloaded.run([*arguments], environment=self.environment | settings, directory=self.directory)

    def secrets(self) -> dict[str, str]:
        lines = (self.directory / ".data/secrets.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def call(self) -> httpx.Response:
        key = self.secrets()["DEMO_API_KEY"]
        return self.http.post("/v1/chat/completions", json=HELLO, headers={"Authorization": f"Bearer {key}"})

    def operator(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.secrets()['ADMIN_TOKEN']}"}

    def rows(self) -> list[dict[str, object]]:
        return list(self.http.get("/logs", headers=self.operator()).json()["data"])
