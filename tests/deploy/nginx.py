"""Debian's nginx on loopback, with `deploy/nginx.conf` as it is, save addresses and the directory that it writes to."""

import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.harness.books import wait_until
from tests.harness.proxy import free_port

CONFIGURATION = Path(__file__).parents[2] / "deploy/nginx.conf"
NOBODY = 65534


@dataclass(frozen=True)
class Nginx:
    url: str
    process: psutil.Process

    def connections_to(self, port: int) -> int:
        """That are open now, of all its processes."""
        ours = [self.process, *self.process.children()]
        open_ones = [connection for process in ours for connection in process.net_connections("tcp") if connection.raddr]
        return sum(connection.raddr.port == port and connection.status == psutil.CONN_ESTABLISHED for connection in open_ones)


@contextmanager
def nginx(*ports: int) -> Iterator[Nginx]:
    """In front of replicas on these two ports. Skips where there is no nginx. It never runs as root."""
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin")
    if program is None:
        pytest.skip("there is no nginx here: Debian's package is nginx-light")
    user = NOBODY if os.geteuid() == 0 else None
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="proxy-nginx-") as place:
        directory = Path(place)
        (directory / "nginx.conf").write_text(_on_loopback(CONFIGURATION.read_text(), ports, port, directory))
        if user is not None:
            os.chown(directory, user, user)
        command = [program, "-e", "stderr", "-c", str(directory / "nginx.conf"), "-g", "daemon off;"]
        with (directory / "log").open("wb") as log:
            started = subprocess.Popen(command, stdout=log, stderr=log, user=user, group=user, extra_groups=[] if user else None)
        try:
            wait_until(lambda: started.poll() is not None or _listens(port), what="nginx listens")
            assert started.poll() is None, (directory / "log").read_text()
            yield Nginx(f"http://127.0.0.1:{port}", psutil.Process(started.pid))
        finally:
            with suppress(ProcessLookupError):
                started.terminate()
            started.wait(10)


def _on_loopback(text: str, ports: Sequence[int], port: int, directory: Path) -> str:
    for pattern, replacement in (
        (r"resolver [^;]*;", ""),
        *((rf"server proxy-{number}:8000 resolve ", f"server 127.0.0.1:{at} ") for number, at in enumerate(ports, 1)),
        (r"listen 8080;", f"listen 127.0.0.1:{port};"),
    ):
        text, found = re.subn(pattern, replacement, text)
        assert found == 1, f"{pattern} is {found} times in {CONFIGURATION}"
    return text.replace(" /tmp/", f" {directory}/")


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
