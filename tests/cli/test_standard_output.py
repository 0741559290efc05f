"""Standard output that can't take what a command says, as on a full disk, behind `| head` or on a terminal of few letters."""

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.harness.books import wait_until
from tests.harness.postgres import Database
from tests.harness.proxy import ADMIN_TOKEN, COMMAND, SECRET_KEY, bare_environment, free_port, refuses

FULL = Path("/dev/full")
no_full_device = pytest.mark.skipif(not FULL.exists(), reason="only Linux has /dev/full")


@pytest.fixture
def user(standing_db: Database) -> str:
    name = f"out-{secrets.token_hex(4)}-\u4e2d\u00eb"
    assert said(standing_db, "users", "add", name, "--name", name)[0] == 0
    return name


def said(db: Database, *arguments: str, stdout: Any = subprocess.PIPE, **environment: str) -> tuple[int, str, str]:
    """Its exit code, and what it wrote to its two outputs."""
    wanted = bare_environment() | {"DATABASE_URL": db.url, "SECRET_KEY": SECRET_KEY, "PYTHONUTF8": "0"} | environment
    done = subprocess.run([*COMMAND, *arguments], stdout=stdout, stderr=subprocess.PIPE, env=wanted, timeout=60, check=False)
    return done.returncode, (done.stdout or b"").decode(errors="replace"), done.stderr.decode()


@pytest.fixture
def call(standing_db: Database, user: str) -> Iterator[None]:
    """One that the platform wrote, so that there is something to show."""
    standing_db.execute(
        "INSERT INTO aigcspace.api_call_log (user_id, model_name, is_local, input_tokens, output_tokens, bill, status)"
        " VALUES ($1, 'm', false, 0, 0, 0, 'success')",
        user,
    )
    yield
    standing_db.execute("DELETE FROM aigcspace.api_call_log WHERE user_id = $1", user)


@no_full_device
@pytest.mark.usefixtures("call")
@pytest.mark.parametrize("command", ["users list", "users list --json", "prices list --json", "logs tail", "--help", "--version"])
def test_a_full_disk_is_told_in_one_line(standing_db: Database, command: str) -> None:
    with FULL.open("wb") as full:
        code, _, told = said(standing_db, *command.split(), stdout=full)
    assert (code, told) == (1, "billing-proxy: what this command says can't be written: No space left on device\n")


@no_full_device
@pytest.mark.parametrize("as_json", [False, True])
def test_a_secret_that_nobody_saw_is_told(standing_db: Database, user: str, as_json: bool) -> None:
    with FULL.open("wb") as full:
        code, _, told = said(standing_db, "keys", "add", user, *(["--json"] if as_json else []), stdout=full)
    key = standing_db.value("SELECT id FROM aigcspace.platform_api_key WHERE user_id = $1", user)
    assert (code, len(told.splitlines())) == (1, 1)
    assert told.endswith(f"could not be shown (No space left on device). Make another: billing-proxy keys rotate {key}\n")


@no_full_device
def test_a_full_disk_stops_no_proxy(standing_db: Database, tmp_path: Path) -> None:
    port = free_port()
    settings = {"DATABASE_URL": standing_db.url, "SECRET_KEY": SECRET_KEY, "ADMIN_TOKEN": ADMIN_TOKEN, "PORT": str(port), "DATA_DIR": "."}
    with (
        FULL.open("wb") as full,
        subprocess.Popen(
            [*COMMAND, "serve"], stdout=full, stderr=subprocess.PIPE, env=bare_environment() | settings, cwd=tmp_path
        ) as serving,
    ):
        try:
            wait_until(lambda: not refuses(port) and httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False).status_code == 200)
        finally:
            serving.terminate()
        _, told = serving.communicate(timeout=30)
    assert serving.returncode == 0
    assert b"can't be printed" in told


@pytest.mark.parametrize(("command", "says"), [("users list", ""), ("keys add {user}", "Make another: billing-proxy keys rotate")])
def test_who_reads_no_more_is_not_bothered_but_for_a_secret(standing_db: Database, user: str, command: str, says: str) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    try:
        code, _, told = said(standing_db, *command.format(user=user).split(), stdout=writes)
    finally:
        os.close(writes)
    assert code == 1
    assert says in told if says else told == ""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_letters_that_standard_output_has_not_got_are_escaped(standing_db: Database, user: str, encoding: str) -> None:
    code, shown, told = said(standing_db, "users", "show", user, PYTHONIOENCODING=encoding)
    assert (code, told) == (0, "")
    assert r"\u4e2d" in shown
    code, shown, told = said(standing_db, "users", "show", user, "--json", PYTHONIOENCODING=encoding)
    assert (code, told) == (0, "")
    assert f'"id": "{user[:-2]}\\u4e2d\\u00eb"' in shown


def test_ctrl_c_while_the_program_is_loaded_ends_it_without_a_word() -> None:
    """Told as the shell wants it: the signal ends it."""
    interrupted = "import signal, app.cli.entry as entry; entry.import_module = lambda _: signal.raise_signal(signal.SIGINT); entry.main()"
    done = subprocess.run([sys.executable, "-c", interrupted], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")
