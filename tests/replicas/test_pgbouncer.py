"""Debian's PgBouncer between a proxy and its database, in session mode, as docs/scaling.md has it."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from sqlalchemy import make_url

from tests.harness.books import books, wait_until
from tests.harness.load import Load
from tests.harness.proxy import Proxy, free_port, refuses, running
from tests.harness.scene import Scene
from tests.replicas.conftest import NEVER

NOBODY = 65534
CONFIGURATION = """
[databases]
* = host={host} port={server_port} user={user} {password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = session
max_client_conn = 200
default_pool_size = 60
ignore_startup_parameters = jit,lock_timeout,statement_timeout,search_path
"""


@contextmanager
def pgbouncer(database_url: str) -> Iterator[str]:
    """The URL of the database through it. Skips where there is none. It never runs as root."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin")
    if program is None:
        pytest.skip("there is no PgBouncer here: Debian's package is pgbouncer")
    url, port = make_url(database_url), free_port()
    host = url.host or str(url.query["host"])
    user = None
    if os.geteuid() == 0:  # the embedded server's socket is its owner's
        user = Path(host).stat().st_uid if host.startswith("/") else NOBODY
    with tempfile.TemporaryDirectory(prefix="proxy-pgbouncer-") as place:
        directory = Path(place)
        configuration = directory / "pgbouncer.ini"
        configuration.write_text(
            CONFIGURATION.format(
                host=host,
                server_port=url.port or url.query.get("port", 5432),
                user=url.username,
                password=f"password={url.password}" if url.password else "",
                port=port,
            )
        )
        if user is not None:
            os.chown(directory, user, user)
        with (directory / "log").open("wb") as log:
            groups: list[int] | None = None if user is None else []
            started = subprocess.Popen([program, str(configuration)], stdout=log, stderr=log, user=user, group=user, extra_groups=groups)
        try:
            wait_until(lambda: started.poll() is not None or not refuses(port), what="PgBouncer listens")
            assert started.poll() is None, (directory / "log").read_text()
            yield url.set(host="127.0.0.1", port=port, query={}).render_as_string(hide_password=False)
        finally:
            with suppress(ProcessLookupError):
                started.kill()
            started.wait(10)


def test_calls_are_billed_and_changes_heard_through_it(scene: Scene, tmp_path: Path) -> None:
    with ExitStack() as stack:
        behind = Proxy(database_url=stack.enter_context(pgbouncer(scene.db.url)), directory=tmp_path, **NEVER)
        stack.callback(lambda: behind in running and behind.stop())
        scene.known_to(behind.wait_ready())

        seen = Load(behind.url, key=scene.key, model=scene.model, in_flight=16, calls=64).run()

        assert all(one.is_success for one in seen)
        assert len(scene.rows()) == 64
        scene.db.execute("UPDATE aigcspace.account SET disabled_at = now() WHERE user_id = $1", scene.user)
        wait_until(lambda: scene.http.get(f"{behind.url}/v1/key").status_code == 403, what="the change is heard")
        assert behind.stop() == 0
    books(scene.db)
