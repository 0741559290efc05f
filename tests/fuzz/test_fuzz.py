"""Whatever is sent to the data plane: no answer is a fault of ours, nothing hangs, and nothing is left behind.
The upstream is honest, so that a 5xx is never true.
"""

from collections import Counter, deque
from pathlib import Path

import hypothesis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.conftest import EXAMPLES
from tests.fuzz.requests import requests
from tests.fuzz.wire import Wire
from tests.harness.books import wait_until
from tests.harness.postgres import Database
from tests.harness.proxy import Proxy
from tests.harness.scene import Scene

AT_ONCE = 0.05
"""Seconds for which an answer is waited for at once: one that doesn't come by then is seen after later ones."""
LEFT_OPEN = 40
POOLED = 30
"""Connections to the database and the upstream that a proxy may open beside those of its first call."""


class Waiting:
    """Connections whose request may be whole or not: each ends with an answer, or as the server hangs up."""

    def __init__(self) -> None:
        self._wires: deque[tuple[Wire, list[bytes]]] = deque()
        self.answers: Counter[int | None] = Counter()

    def take(self, wire: Wire, sent: list[bytes]) -> None:
        self._wires.append((wire, sent))
        while len(self._wires) > LEFT_OPEN:
            self._end()

    def end(self) -> None:
        while self._wires:
            self._end()

    def close(self) -> None:
        for wire, _ in self._wires:
            wire.socket.close()

    def _end(self) -> None:
        wire, sent = self._wires.popleft()
        wire.socket.settimeout(15)
        self.see(wire, sent)

    def see(self, wire: Wire, sent: list[bytes]) -> None:
        try:
            answer = wire.answer()
        except TimeoutError:
            if wire.socket.gettimeout() == AT_ONCE:
                self.take(wire, sent)
                return
            raise AssertionError(f"no answer, and no end: {sent} {wire._read!r}") from None
        wire.socket.close()
        self.answers[answer.status if answer else None] += 1
        assert answer is None or answer.status < 500, (answer, sent)


@pytest.mark.timeout(3600)
def test_nothing_that_is_sent_is_a_fault_or_leaves_anything(hasty: Proxy, hasty_scene: Scene, db: Database) -> None:
    scene, waiting = hasty_scene, Waiting()
    assert scene.post(scene.chat()).status_code == 200  # what is opened once is open
    before, sent = open_files(hasty), 0

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @given(requests(key=scene.key, model=scene.model), st.integers(0, 19))
    def send(pieces: list[bytes], leaves: int) -> None:
        nonlocal sent
        sent += 1
        wire = Wire(hasty.port, patience=AT_ONCE)
        wire.send(*pieces)
        if leaves == 7:
            wire.socket.close()
        else:
            waiting.see(wire, pieces)

    try:
        send()
        waiting.end()
    finally:
        waiting.close()
    answers = waiting.answers
    print(f"{answers.total()} of {sent} requests were answered or hung up on: {sorted(answers.items(), key=str)}")

    assert answers[200] > answers.total() / 20, "hardly any is a call"
    assert scene.post(scene.chat()).status_code == 200
    wait_until(lambda: open_files(hasty) <= before + POOLED, what=f"no more open files than {before} and some")
    wait_until(lambda: db.value("SELECT count(*) FROM aigcspace.call_hold") == 0, what="no call holds money")
    assert "Traceback" not in hasty.output()
    assert "never retrieved" not in hasty.output()


def open_files(proxy: Proxy) -> int:
    return len(list(Path(f"/proc/{proxy.process.pid}/fd").iterdir()))
