"""An upgrade in a process of its own, as replicas that start together make it. Run as a module, it is that process."""

import sys
import tempfile
from pathlib import Path

from app.runtime.migrations import upgrade
from tests.harness import preloaded
from tests.harness.proxy import bare_environment


class Upgrading:
    """As much of `subprocess.Popen` as tests need."""

    def __init__(self, url: str) -> None:
        self._place = tempfile.TemporaryDirectory(prefix="proxy-upgrade-")
        self._log = Path(self._place.name, "log")
        self._said = ""
        self._process = preloaded.start(
            "tests.schema.upgrading", [url], environment=bare_environment(), directory=Path(self._place.name), log=self._log
        )

    def poll(self) -> int | None:
        return self._process.poll()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)

    def end(self, within: float = 60.0) -> tuple[int, str]:
        """Waits for it; its exit code, and all that it printed."""
        code = self._process.wait(within)
        if self._log.exists():
            self._said = self._log.read_text()
            self._place.cleanup()
        return code, self._said


if __name__ == "__main__":
    upgrade(sys.argv[1])
