"""Many slow clients delay nobody: what calls take beside 2,000 of them, and alone, is printed. Only in the long form, and with
a bound that nothing but a standstill passes: on a busy machine the figures mean little."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.fuzz.conftest import IS_LONG
from tests.harness.load import Load
from tests.harness.scene import Scene

SLOW = 2_000
CALLS, IN_FLIGHT, ROUNDS = 500, 4, 3


@pytest.mark.skipif(not IS_LONG, reason="long")
@pytest.mark.timeout(600)
def test_slow_clients_delay_nobody(scene: Scene) -> None:
    took(scene)
    alone, beside = [], []
    for _ in range(ROUNDS):
        alone += took(scene)
        with slow_clients(scene.proxy.port):
            beside += took(scene)

    for what, share in (("p50", 0.5), ("p99", 0.99)):
        one, other = at(alone, share), at(beside, share)
        print(f"{what}: {one * 1000:.1f} ms alone, {other * 1000:.1f} ms beside {SLOW} slow clients: {other / one:.2f} times")
    assert at(beside, 0.99) < 5


def took(scene: Scene) -> list[float]:
    """Seconds, of each call."""
    seen = Load(scene.proxy.url, key=scene.key, model=scene.model, in_flight=IN_FLIGHT, calls=CALLS, pause=0, max_tokens=50).run()
    assert all(one.is_success for one in seen), [one for one in seen if not one.is_success][:3]
    return [one.ended - one.started for one in seen]


def at(times: list[float], share: float) -> float:
    return sorted(times)[int(len(times) * share)]


@contextmanager
def slow_clients(port: int) -> Iterator[None]:
    command = [sys.executable, "-m", "tests.fuzz.slow_clients", str(port), str(SLOW)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"there\n"
            yield
            assert process.poll() is None
        finally:
            process.kill()
