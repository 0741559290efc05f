"""A first start on nothing but a directory: the demo answers, its secrets are private, and the next start finds all."""

import signal
import stat
import subprocess

import pytest

from tests.harness.books import wait_until
from tests.harness.installation import Installation
from tests.harness.proxy import free_port, refuses


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


def test_the_next_start_finds_the_port_of_a_killed_parent_free(installation: Installation) -> None:
    installation.environment["WORKERS"] = "2"
    installation.start()
    wait_until(lambda: installation.call().status_code == 200, what="an answer")
    assert installation.process is not None
    installation.process.kill()
    installation.process.wait(10)
    wait_until(lambda: refuses(installation.port), what="the port is given back")
    installation.start()
    assert installation.stop() == 0


def test_a_provider_in_the_environment_becomes_an_upstream_with_list_prices(installation: Installation) -> None:
    installation.environment["OPENAI_API_KEY"] = "sk-of-the-operator-0123456789"
    printed = installation.start()
    assert "sk-of-the-operator" not in printed
    admin = installation.operator()
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
