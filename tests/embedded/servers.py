"""Embedded servers of these tests: in this process or in one of their own, what they hold and what runs of them."""

import asyncio
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import psutil  # type: ignore[import-untyped]

from app.runtime.postgres import EmbeddedPostgres

Start = Callable[[Path], EmbeddedPostgres]
Own = Callable[[Path], "subprocess.Popen[str]"]

OWNER = """
import signal, sys
from pathlib import Path
from app.runtime.postgres import EmbeddedPostgres
print(EmbeddedPostgres.start(Path(sys.argv[1])).url, flush=True)
signal.pause()
"""


def end_orphan(data_dir: Path) -> None:
    """With its socket directory in /tmp, which a killed owner leaves behind."""
    EmbeddedPostgres.start(data_dir).stop()


def execute(url: str, *statements: str) -> list[Any]:
    """The first value that each statement returns."""

    async def run() -> list[Any]:
        connection = await asyncpg.connect(url.replace("+asyncpg", ""))
        try:
            return [await connection.fetchval(statement) for statement in statements]
        finally:
            await connection.close()

    return asyncio.run(run())


def url_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def until(condition: Callable[[], bool], *, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def postmaster(data_dir: Path) -> psutil.Process:
    return psutil.Process(int((data_dir / "postgres" / "postmaster.pid").read_text().split()[0]))


def ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def sockets(url: str) -> Path:
    return Path(url.partition("?host=")[2].partition("&")[0])
