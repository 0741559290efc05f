"""A stop: what is in flight is let finish, what comes meanwhile is sent elsewhere, and no worker is left behind."""

import json
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.harness.admin import Admin
from tests.harness.books import wait_until
from tests.harness.postgres import Database
from tests.harness.proxy import Proxy, refuses, running
from tests.harness.raw_client import raw, raw_call
from tests.harness.scene import Scene
from tests.harness.scene import scene as set_scene

FINISHING = "Calls in flight are being let finish"


@pytest.fixture
def stopping(db: Database, tmp_path: Path) -> Iterator[Callable[[int], Scene]]:
    """A scene on a proxy of its own, with so many workers."""
    with ExitStack() as stack:

        def start(workers: int) -> Scene:
            proxy = Proxy(database_url=db.url, directory=tmp_path, WORKERS=str(workers))
            stack.callback(ended, proxy)
            proxy.wait_ready()
            made = stack.enter_context(set_scene(proxy, stack.enter_context(Admin(proxy.url)), db))
            made.known_to(proxy, workers=workers)
            return made

        yield start


def ended(proxy: Proxy) -> None:
    if proxy.process.poll() is None:
        proxy.process.kill()
        proxy.process.wait(10)
    running.remove(proxy)


def test_what_comes_over_a_kept_connection_meanwhile_is_sent_elsewhere(stopping: Callable[[int], Scene]) -> None:
    scene = stopping(1)
    gate = scene.upstream.hold()
    call = raw_call(scene, scene.chat())
    with socket.create_connection(("127.0.0.1", scene.proxy.port), 10) as connection, connection.makefile("rb") as answers:
        connection.sendall(call + raw(scene, "GET /readyz"))  # at once: where the one has come, the other has
        wait_until(lambda: scene.upstream.requests, what="the call upstream")
        scene.proxy.process.send_signal(signal.SIGTERM)
        wait_until(lambda: refuses(scene.proxy.port), what="the port is given back")
        gate.open()
        assert b" 200 " in answers.readline()
        rest = answers.read()
    assert b"HTTP/1.1 503" in rest
    assert b'"code":"stopping"' in rest
    assert scene.proxy.process.wait(20) == 0
    assert scene.row()["status"] == "success"
    lines = [json.loads(line) for line in scene.proxy.output().splitlines() if line.startswith("{")]
    assert [line["signal"] for line in lines if line["event"].startswith("stopping")] == ["SIGTERM"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_second_signal_cuts_no_call_off(stopping: Callable[[int], Scene], workers: int) -> None:
    scene = stopping(workers)
    gate = scene.upstream.hold()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(scene.post, scene.chat())
        wait_until(lambda: scene.upstream.requests, what="the call upstream")
        for _ in range(3):  # as Ctrl-C does: to all processes of the terminal
            for process in [*psutil.Process(scene.proxy.process.pid).children(), scene.proxy.process]:
                process.send_signal(signal.SIGINT)
            time.sleep(0.3)
        assert scene.proxy.process.poll() is None
        gate.open()
        assert answer.result(20).status_code == 200
    assert scene.proxy.process.wait(20) == 0
    assert scene.row()["status"] == "success"
    assert scene.proxy.output().count(FINISHING) == 1
    assert scene.db.value("SELECT count(*) FROM aigcspace.call_hold WHERE user_id = $1", scene.user) == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_new_connections_are_refused_while_calls_finish(stopping: Callable[[int], Scene], workers: int) -> None:
    """A load balancer then asks another replica, which is safe since nothing was sent."""
    scene = stopping(workers)
    gate = scene.upstream.hold()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(scene.post, scene.chat())
        wait_until(lambda: scene.upstream.requests, what="the call upstream")
        scene.proxy.process.send_signal(signal.SIGTERM)
        try:
            wait_until(lambda: refuses(scene.proxy.port), what="the port is given back")
        finally:
            gate.open()
        assert answer.result(20).status_code == 200
    assert scene.proxy.process.wait(20) == 0


def test_workers_that_stand_still_for_seconds_keep_their_calls(stopping: Callable[[int], Scene]) -> None:
    """As on a machine that is paused, or has no time for them."""
    scene = stopping(2)
    workers = psutil.Process(scene.proxy.process.pid).children()
    gate = scene.upstream.hold()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(scene.post, scene.chat())
        wait_until(lambda: scene.upstream.requests, what="the call upstream")
        for worker in workers:
            worker.suspend()
        time.sleep(6.5)  # uvicorn itself waits for five
        for worker in workers:
            worker.resume()
        gate.open()
        assert answer.result(30).status_code == 200

    assert scene.row()["end_reason"] == "completed"
    assert psutil.Process(scene.proxy.process.pid).children() == workers
    scene.proxy.process.send_signal(signal.SIGTERM)
    assert scene.proxy.process.wait(20) == 0


def test_workers_whose_parent_was_killed_end_when_their_calls_have(stopping: Callable[[int], Scene]) -> None:
    scene = stopping(2)
    workers = psutil.Process(scene.proxy.process.pid).children()
    gate = scene.upstream.hold()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(scene.post, scene.chat())
        wait_until(lambda: scene.upstream.requests, what="the call upstream")
        scene.proxy.process.kill()
        scene.proxy.process.wait(10)
        wait_until(lambda: refuses(scene.proxy.port), what="the port is given back")
        gate.open()
        assert answer.result(20).status_code == 200
    psutil.wait_procs(workers, timeout=10)
    assert [worker for worker in workers if worker.is_running()] == []
    assert scene.row()["status"] == "success"
