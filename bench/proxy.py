"""The proxy and the stand-in upstream as real processes: started, ready, measured, and ended whatever happens."""

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx
import msgspec

from app.runtime.postgres import EmbeddedPostgres
from bench.admin import Operator
from bench.processes import Child, Cost, Failure, cost_of, environment, free_port
from bench.wire import Totals

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = Path(sys.executable).with_name("billing-proxy")
START_LIMIT = 120.0
STOP_LIMIT = 60.0
QUIET_LIMIT = 10.0
_QUIET_WINDOW = 0.5
_QUIET_SHARE = 0.04
"""Of one core, over the window: what a proxy and a PostgreSQL with nothing to do may use."""


@dataclass(frozen=True)
class Upstream:
    """The stand-in, running."""

    url: str

    def totals(self) -> Totals:
        return msgspec.json.decode(httpx.get(f"{self.url}/totals", trust_env=False).content, type=Totals)


@dataclass(frozen=True)
class Proxy:
    """The proxy, ready. `directory` is gone once it has ended."""

    url: str
    child: Child
    directory: Path
    operator: Operator

    def cost(self) -> Cost:
        if not self.child.running:
            raise Failure(f"the proxy has ended:\n{self.child.last_words()}")
        return cost_of(self.child)

    def database_url(self) -> str | None:
        """Of the database that it works on; None where that is gone."""
        return os.environ.get("BENCH_DATABASE_URL") or EmbeddedPostgres.url_of_running(self.directory / "data")

    def transactions(self) -> int:
        """How many that write anything were begun so far in all: each takes the next number."""
        url = self.database_url()
        if url is None:
            raise Failure("the proxy's database doesn't answer")
        return asyncio.run(_next_transaction(url.replace("postgresql+asyncpg://", "postgresql://", 1)))

    def wait_until_quiet(self) -> None:
        """Bounded: a PostgreSQL that vacuums for long is measured with it."""
        deadline = time.monotonic() + QUIET_LIMIT
        before = self.cost()
        while time.monotonic() < deadline:
            time.sleep(_QUIET_WINDOW)
            after = self.cost()
            if after.proxy + after.postgres - before.proxy - before.postgres <= _QUIET_SHARE * _QUIET_WINDOW:
                return
            before = after


async def _next_transaction(url: str) -> int:
    connection = await asyncpg.connect(url, timeout=5)
    try:
        return int(await connection.fetchval("SELECT pg_snapshot_xmax(pg_current_snapshot())::text"))
    finally:
        await connection.close()


@contextlib.contextmanager
def work_directory() -> Iterator[Path]:
    """For logs and the proxy's data. Its mode lets another user pass, as whom PostgreSQL runs if we are root."""
    directory = Path(tempfile.mkdtemp(prefix="billing-proxy-bench-"))
    try:
        directory.chmod(0o755)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def running_upstream(directory: Path, *, events: int = 100, pace: float = 0.01) -> Iterator[Upstream]:
    """`pace`: seconds between the events of paced streams."""
    command = [sys.executable, "-m", "bench.upstream", "--events", str(events), "--pace", str(pace)]
    child = Child(command, log=directory / "upstream.log", cwd=ROOT)
    try:
        wait_until(child, lambda: bool(child.first_line()), "the stand-in upstream")
        yield Upstream(f"http://127.0.0.1:{json.loads(child.first_line())['port']}")
    finally:
        child.stop()


@contextlib.contextmanager
def running_proxy(directory: Path) -> Iterator[Proxy]:
    """Settings in our environment (such as WORKERS) reach it; a DATABASE_URL or a `.env` meant for others does not."""
    token, port = secrets.token_urlsafe(24), free_port()
    settings = environment(
        HOST="127.0.0.1",
        PORT=str(port),
        DATA_DIR=str(directory / "data"),
        DATABASE_URL=os.environ.get("BENCH_DATABASE_URL"),
        ADMIN_TOKEN=token,
        SECRET_KEY=secrets.token_urlsafe(32),
    )
    if not PROGRAM.exists():
        raise Failure(f"{PROGRAM} is not there: run `make install`")
    url = f"http://127.0.0.1:{port}"
    operator = Operator(url, token, f"bench-{secrets.token_hex(4)}")
    child = Child([str(PROGRAM), "serve"], log=directory / "proxy.log", cwd=directory, env=settings, patience=STOP_LIMIT)
    try:
        wait_until(child, operator.ready, "the proxy")
        yield Proxy(url, child, directory, operator)
    finally:
        with contextlib.suppress(Failure):
            operator.tear_down()
        operator.close()
        child.stop()


@contextlib.contextmanager
def profiled(proxy: Proxy, seconds: float, to: Path) -> Iterator[None]:
    """py-spy stops the proxy at each sample: a profiled run's numbers are not for the record."""
    beside_python = Path(sys.executable).parent
    program = shutil.which("py-spy", path=f"{beside_python}{os.pathsep}{os.environ.get('PATH', '')}")
    if program is None:
        raise Failure("--profile needs py-spy: run `make install`")
    to.parent.mkdir(parents=True, exist_ok=True)
    form = {".svg": "flamegraph", ".json": "speedscope"}.get(to.suffix, "raw")
    command = [program, "record", "--pid", str(proxy.child.pid), "--subprocesses", "--rate", "200"]
    command += ["--duration", str(max(1, round(seconds))), "--format", form, "--output", str(to)]
    child = Child(command, log=proxy.directory / "py-spy.log", cwd=ROOT)
    try:
        yield
        if child.wait(START_LIMIT) != 0:
            raise Failure(f"py-spy: {child.last_words()}")
    finally:
        child.stop()


def run_load(
    url: str, directory: Path, arguments: list[str], limit: float, meanwhile: Callable[[], None] | None = None
) -> tuple[bytes, bytes]:
    """The load generator's summary (JSON) and its calls (NDJSON). It ends by itself; `limit` is for when it doesn't."""
    calls = directory / "calls.ndjson"
    command = [sys.executable, "-m", "bench.load", "--url", f"{url}/v1/chat/completions", *arguments]
    log = directory / "load.log"
    child = Child([*command, "--calls-file", str(calls)], log=log, cwd=ROOT)
    try:
        while meanwhile and child.running:
            meanwhile()
        if child.wait(limit) != 0:
            raise Failure(f"the load generator did not end well:\n{child.last_words()}")
    finally:
        child.stop()
    return log.read_bytes().splitlines()[-1], calls.read_bytes()


def wait_until(child: Child, ready: Callable[[], bool], name: str) -> None:
    deadline = time.monotonic() + START_LIMIT
    while not ready():
        if not child.running:
            raise Failure(f"{name} did not start:\n{child.last_words()}")
        if time.monotonic() > deadline:
            raise Failure(f"{name} was not ready within {START_LIMIT:.0f} s:\n{child.last_words()}")
        time.sleep(0.05)
