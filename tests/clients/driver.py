"""A client that runs in a process of its own, in another language or with other releases of its libraries: one line of JSON
says what to do, and one comes back with what the client made of the answer."""

import json
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.harness.proxy import bare_environment
from tests.harness.scene import Scene

ROOT = Path(__file__).parents[2]


class Driver:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def do(self, step: str, scene: Scene) -> Any:
        """What the step of this name made of the call, or calls."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        told = {"step": step, "url": scene.proxy.url, "key": scene.key, "model": scene.model}
        print(json.dumps(told), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        assert line, f"the client ended with {self._process.wait(10)}; what it said is above"
        answer = json.loads(line)
        assert "error" not in answer, answer["error"]
        return answer["result"]


def driver(command: Sequence[str | Path], *, needs: Path, named: str) -> Iterator[Driver]:
    """Skips where the client isn't installed: `needs` is there only if it is."""
    if not needs.exists():
        pytest.skip(f"{named} is not installed: `make clients` installs it, where it can be")
    process = subprocess.Popen(
        [str(part) for part in command],
        cwd=Path(__file__).parent,
        env=bare_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield Driver(process)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(20) == 0
