"""The embedded PostgreSQL dies under a proxy that runs on, and is started again; or is not, as it is being stopped."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import psutil  # type: ignore[import-untyped]
import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from app.errors import StartupError
from app.runtime import postgres, postgres_server
from app.runtime.postgres import SETTINGS, EmbeddedPostgres
from app.runtime.postgres_cluster import Owner, Programs
from app.runtime.postgres_process import shut_down
from app.runtime.postgres_server import Server
from tests.embedded.servers import Own, Start, ended, execute, postmaster, until, url_of

NOT_THERE = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)
CLIENTS = 120
"""More than the server has connections."""


@pytest.fixture
def logged() -> Iterator[list[EventDict]]:
    with capture_logs() as lines:
        yield lines


def kill(data_dir: Path) -> list[psutil.Process]:
    """SIGKILL to the server alone. Returns it and the processes that it leaves behind."""
    server = postmaster(data_dir)
    family = [server, *server.children(recursive=True)]
    os.kill(server.pid, signal.SIGKILL)
    return family


def answers(url: str) -> bool:
    try:
        return execute(url, "SELECT 1") == [1]
    except NOT_THERE:
        return False


def running(name: str) -> list[psutil.Process]:
    """The processes of the server whose `cluster_name` that is, those that are just about to become one, too."""
    return [process for process in psutil.process_iter() if name in " ".join(_arguments(process))]


def _arguments(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.NoSuchProcess:
        return []


def test_a_killed_server_comes_back_with_what_was_committed(data_dir: Path, start: Start, logged: list[EventDict]) -> None:
    url = start(data_dir).url
    execute(url, "CREATE TABLE kept AS SELECT 7 AS n")
    killed = kill(data_dir)
    until(lambda: answers(url))
    assert execute(url, "SELECT n FROM kept") == [7]
    assert all(ended(process) for process in killed)
    assert postmaster(data_dir).uids().real == (data_dir / "postgres").stat().st_uid
    until(lambda: len(logged) == 2)
    [death, back] = logged
    assert (death["log_level"], back["log_level"]) == ("error", "info")
    assert death["ending"].startswith("signal 9 (Killed)")
    assert "\n" not in death["ending"]


def test_last_words_are_told(data_dir: Path, start: Start, logged: list[EventDict]) -> None:
    url = start(data_dir).url

    async def last_words() -> None:
        connection = await asyncpg.connect(url.replace("+asyncpg", ""))
        kill(data_dir)
        while not connection.is_closed():
            await asyncio.sleep(0.01)

    asyncio.run(last_words())
    until(lambda: len(logged) == 2)
    assert "FATAL:  terminating connection due to unexpected postmaster exit" in logged[0]["ending"]


def test_three_kills_in_a_row(data_dir: Path, start: Start) -> None:
    url = start(data_dir).url
    execute(url, "CREATE TABLE kept (n int)")
    for n in range(3):
        execute(url, f"INSERT INTO kept VALUES ({n})")
        kill(data_dir)
        until(lambda: answers(url))
    assert execute(url, "SELECT array_agg(n ORDER BY n) FROM kept") == [[0, 1, 2]]


def test_a_server_that_an_operator_stops_comes_back(data_dir: Path, start: Start, logged: list[EventDict]) -> None:
    url = start(data_dir).url
    postmaster(data_dir).send_signal(signal.SIGINT)
    until(lambda: bool(logged) and answers(url))
    assert logged[0]["ending"].startswith("status 0: ")


def test_it_comes_back_under_more_clients_than_it_has_connections(data_dir: Path, start: Start, logged: list[EventDict]) -> None:
    url = start(data_dir).url.replace("+asyncpg", "")
    served: set[int] = set()
    is_killed = asyncio.Event()

    async def client(number: int) -> None:
        while True:
            try:
                connection = await asyncpg.connect(url)
            except NOT_THERE:
                await asyncio.sleep(0)
                continue
            try:
                while True:
                    await connection.execute("SELECT 1")
                    if is_killed.is_set():
                        served.add(number)
            except NOT_THERE:
                pass
            finally:
                connection.terminate()

    async def hammer() -> None:
        clients = [asyncio.create_task(client(number)) for number in range(CLIENTS)]
        await asyncio.sleep(0.5)
        kill(data_dir)
        is_killed.set()
        while len(served) < CLIENTS // 2 or len(logged) < 2:
            await asyncio.sleep(0.01)
        for task in clients:
            task.cancel()
        await asyncio.gather(*clients, return_exceptions=True)

    asyncio.run(asyncio.wait_for(hammer(), 60))
    assert [line["log_level"] for line in logged] == ["error", "info"]


def test_backends_that_do_not_notice_are_killed(data_dir: Path, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_server, "LEFT_LIMIT", 0.2)
    url = start(data_dir).url
    server = postmaster(data_dir)
    backends = []
    for backend in server.children():
        with suppress(psutil.NoSuchProcess):  # a worker of the server's may just have done its work
            backend.suspend()
            backends.append(backend)
    os.kill(server.pid, signal.SIGKILL)
    until(lambda: answers(url))
    assert all(ended(backend) for backend in backends)


def test_it_is_tried_until_it_works(data_dir: Path, start: Start, logged: list[EventDict], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(postgres, "LONGEST_PAUSE", 0.15)
    url = start(data_dir).url
    configuration = data_dir / "postgres" / "postgresql.conf"
    before = configuration.read_text()
    configuration.write_text(f"{before}\nno_such_setting = 1\n")
    kill(data_dir)
    until(lambda: len(logged) > 3)
    configuration.write_text(before)
    until(lambda: answers(url))
    assert "no_such_setting" in logged[1]["reason"] or "configuration file" in logged[1]["reason"]
    assert [line["next_try_in"] for line in logged[1:4]] == [0.05, 0.1, 0.15]


@pytest.mark.parametrize("delay", [0.0, 0.03, 0.1, 0.2, 0.3])
def test_stop_right_after_a_kill_leaves_no_process(delay: float, data_dir: Path) -> None:
    server = EmbeddedPostgres.start(data_dir)
    [name] = execute(server.url, "SHOW cluster_name")
    kill(data_dir)
    time.sleep(delay)
    server.stop()
    assert not [process for process in running(name) if not ended(process)]
    assert not [thread for thread in threading.enumerate() if thread.name == f"postgres {data_dir}"]
    again = EmbeddedPostgres.start(data_dir)
    again.stop()


def test_a_signal_that_gets_lost_is_sent_again() -> None:
    """As one does that finds the interpreter starting which is to become PostgreSQL."""
    script = "import signal, time; signal.signal(2, lambda *_: signal.signal(2, signal.SIG_DFL)); print(flush=True); time.sleep(100)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        assert shut_down(process.pid, lambda: process.poll() is None)
    assert process.returncode == -signal.SIGINT


def test_stop_waits_for_a_launch_that_has_begun(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = data_dir / "postgres"
    server = Server(data, tmp_path / "early.log", Programs.shipped(), Owner.of(data), SETTINGS)
    stopping = threading.Thread(target=server.stop)

    def stop_comes_first(data: Path) -> dict[str, str]:
        stopping.start()
        stopping.join(0.3)
        return {}

    monkeypatch.setattr(postgres_server, "false_matches", stop_comes_first)
    with pytest.raises(StartupError):
        server.start()
    stopping.join()
    assert not [process for process in running(str(data)) if not ended(process)]
    with pytest.raises(StartupError, match="is being stopped"):
        server.start()


def test_a_server_whose_connections_are_all_taken_is_there(data_dir: Path, start: Start) -> None:
    url = start(data_dir).url

    async def take_all() -> str | None:
        taken = []
        try:
            while True:
                taken.append(await asyncpg.connect(url.replace("+asyncpg", "")))
        except asyncpg.TooManyConnectionsError:
            return EmbeddedPostgres.url_of_running(data_dir)
        finally:
            for connection in taken:
                connection.terminate()

    assert asyncio.run(take_all()) == url


def test_stop_ends_a_long_pause(data_dir: Path, logged: list[EventDict], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "FIRST_PAUSE", 60.0)
    monkeypatch.setattr(postgres, "LONGEST_PAUSE", 60.0)
    server = EmbeddedPostgres.start(data_dir)
    (data_dir / "postgres" / "pg_hba.conf").write_text("nonsense\n")
    kill(data_dir)
    until(lambda: len(logged) == 2)
    since = time.monotonic()
    server.stop()
    assert time.monotonic() - since < 5


@pytest.mark.skipif(sys.platform != "linux", reason="the parent's death signal is Linux's")
def test_a_server_that_came_back_ends_when_its_owner_is_killed(data_dir: Path, owner: Own) -> None:
    killed = owner(data_dir)
    url = url_of(killed)
    kill(data_dir)
    until(lambda: answers(url))
    orphan = postmaster(data_dir)
    killed.kill()
    until(lambda: ended(orphan))
