"""A first start on nothing but a directory: the demo answers, its secrets are private, and the next start finds all."""

import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.harness.proxy import COMMAND, bare_environment, free_port

HELLO = {"model": "demo-echo", "messages": [{"role": "user", "content": "Hello there"}]}


class Installation:
    """`billing-proxy` in a directory of its own, with the embedded database."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.environment = bare_environment() | {"PORT": str(self.port)}
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", trust_env=False)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """Returns what it printed until it was ready."""
        with (self.directory / "log").open("wb") as log:
            self.process = subprocess.Popen([*COMMAND, "serve"], cwd=self.directory, env=self.environment, stdout=log, stderr=log)
        deadline = time.monotonic() + 30
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
        return subprocess.run(
            [*COMMAND, *arguments],
            cwd=self.directory,
            env=self.environment | settings,
            capture_output=True,
            text=True,
            timeout=40,
            check=False,
        )

    def secrets(self) -> dict[str, str]:
        lines = (self.directory / ".data/secrets.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def call(self) -> httpx.Response:
        key = self.secrets()["DEMO_API_KEY"]
        return self.http.post("/v1/chat/completions", json=HELLO, headers={"Authorization": f"Bearer {key}"})

    def rows(self) -> list[dict[str, object]]:
        token = self.secrets()["ADMIN_TOKEN"]
        return list(self.http.get("/logs", headers={"Authorization": f"Bearer {token}"}).json()["data"])


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    made = Installation(tmp_path)
    yield made
    made.http.close()
    if made.process is not None and made.process.poll() is None:
        made.stop()


def test_the_demo_answers_and_its_row_shows_the_bill(installation: Installation) -> None:
    installation.start()
    assert installation.call().json()["choices"][0]["message"]["content"] == "Hello there"
    [row] = installation.rows()
    shown = {name: row[name] for name in ("user_id", "input_tokens", "output_tokens", "bill", "is_local", "request_ip", "status")}
    assert shown == {
        "user_id": "demo",
        "input_tokens": 2,
        "output_tokens": 2,
        "bill": "0.0006",
        "is_local": True,
        "request_ip": "127.0.0.1",
        "status": "success",
    }


def test_the_next_start_finds_all_as_it_was(installation: Installation) -> None:
    installation.start()
    installation.call()
    before, secrets = installation.rows(), installation.secrets()
    assert installation.stop() == 0
    installation.port = free_port()
    installation.environment["PORT"] = str(installation.port)
    installation.http.base_url = f"http://127.0.0.1:{installation.port}"
    installation.start()
    assert (installation.rows(), installation.secrets()) == (before, secrets)
    assert installation.call().status_code == 200, "the demo model moved with the port"


def test_secrets_are_private_and_not_printed(installation: Installation) -> None:
    printed = installation.start()
    secrets_file = installation.directory / ".data/secrets.env"
    assert stat.S_IMODE(secrets_file.stat().st_mode) == 0o600
    assert not [name for name, value in installation.secrets().items() if value in printed]
    installation.stop()
    secrets_file.chmod(0o644)
    refused = installation.run("serve")
    assert refused.returncode == 1
    assert "chmod 600" in refused.stderr


def test_a_second_start_says_who_is_running(installation: Installation) -> None:
    installation.start()
    assert installation.process is not None
    refused = installation.run("serve", PORT=str(free_port()))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"pid {installation.process.pid}" in refused.stderr
    assert "is in use" in installation.run("serve").stderr.lower().replace("already in use", "is in use")


def test_the_demo_is_removed_while_it_is_served_and_stays_away(installation: Installation) -> None:
    installation.start()
    assert "gone" in installation.run("demo", "remove").stdout
    assert installation.call().status_code == 403
    installation.stop()
    installation.start()
    assert installation.call().status_code == 403
    assert "no demo" in installation.run("demo", "remove").stdout


def test_the_demo_model_is_for_the_proxy_alone(installation: Installation) -> None:
    installation.start()
    assert installation.http.post("/internal/demo/v1/chat/completions", json=HELLO).status_code == 401


def test_a_provider_in_the_environment_becomes_an_upstream_with_list_prices(installation: Installation) -> None:
    installation.environment["OPENAI_API_KEY"] = "sk-of-the-operator-0123456789"
    printed = installation.start()
    assert "sk-of-the-operator" not in printed
    admin = {"Authorization": f"Bearer {installation.secrets()['ADMIN_TOKEN']}"}
    upstreams = {upstream["name"]: upstream for upstream in installation.http.get("/admin/upstreams", headers=admin).json()["data"]}
    assert (upstreams["openai"]["models"], upstreams["openai"]["has_api_key"]) == (["*"], True)
    [price] = installation.http.get("/admin/prices/gpt-4o", headers=admin).json()["data"]
    assert set(price["rates"]) >= {"input", "output", "cache_read"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_leaves_no_process(installation: Installation, number: int) -> None:
    installation.start()
    assert installation.stop(number) == 0
    left = subprocess.run(["/usr/bin/pgrep", "-f", str(installation.directory)], capture_output=True, text=True, check=False)
    assert left.stdout == ""


WRONG = {
    "DATABASE_URL": ("postgresql://localhost/x", "postgresql+asyncpg://"),
    "PORT": ("eighty", "PORT"),
    "WORKERS": ("0", "WORKERS"),
    "ADMIN_TOKEN": ("short", "ADMIN_TOKEN"),
    "CURRENCY": ("dollars", "CURRENCY"),
    "DEFAULT_CREDIT": ("-1", "DEFAULT_CREDIT"),
    "LOG_TIME_ZONE": ("Mars/Olympus", "LOG_TIME_ZONE"),
    "SETTLE_WAIT": ("never", "SETTLE_WAIT"),
    "OUTPUT_LIMIT": ("maybe", "OUTPUT_LIMIT"),
    "TOPUP_URL": ("not a url", "TOPUP_URL"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_setting_that_makes_no_sense_stops_the_start_with_one_line(installation: Installation, name: str) -> None:
    value, told = WRONG[name]
    refused = installation.run("serve", **{name: value})
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert len(refused.stderr.strip().splitlines()) == 1, refused.stderr
    assert told in refused.stderr


def test_a_database_that_is_not_there_is_told_in_one_line(installation: Installation) -> None:
    refused = installation.run("serve", DATABASE_URL=f"postgresql+asyncpg://nobody:hunter2@127.0.0.1:{free_port()}/none")
    assert refused.returncode == 1
    assert len(refused.stderr.strip().splitlines()) == 1, refused.stderr
    assert "hunter2" not in refused.stderr
