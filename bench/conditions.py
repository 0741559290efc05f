"""What the numbers were taken on. What can't be found out is said to be unknown; nothing here stops a benchmark."""

import asyncio
import os
import platform
import subprocess
from pathlib import Path

import asyncpg

from bench.processes import file_system_of, postgres_program
from bench.proxy import ROOT, Proxy

UNKNOWN = "unknown"


def conditions_of(proxy: Proxy, seconds: float) -> dict[str, str]:
    return {
        "commit": _commit(),
        "CPU": _cpu_model(),
        "cores": str(os.cpu_count()),
        "load average before": f"{os.getloadavg()[0]:.2f}",
        "Python": platform.python_version(),
        "PostgreSQL": _postgres_version(proxy),
        "data on": file_system_of(proxy.directory),
        "workers": os.environ.get("WORKERS", "1"),
        "seconds a run": f"{seconds:g}",
    }


def _commit() -> str:
    commit = _said_by("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD")
    changed = _said_by("git", "-C", str(ROOT), "status", "--porcelain")
    return f"{commit or UNKNOWN}{' with changes' if changed else ''}"


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or UNKNOWN
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), UNKNOWN)


def _postgres_version(proxy: Proxy) -> str:
    url = os.environ.get("BENCH_DATABASE_URL")
    if url:
        return asyncio.run(_version_at(url.replace("postgresql+asyncpg://", "postgresql://", 1)))
    program = postgres_program(proxy.child)
    return f"{_said_by(str(program), '--version')} (embedded)" if program else UNKNOWN


async def _version_at(url: str) -> str:
    try:
        connection = await asyncpg.connect(url, timeout=5)
        try:
            return str(await connection.fetchval("SELECT version()"))
        finally:
            await connection.close()
    except (OSError, asyncpg.PostgresError, ValueError) as unreachable:
        return f"{UNKNOWN} ({unreachable})"


def _said_by(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""
