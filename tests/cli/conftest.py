"""An installation of its own for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.installation import Installation


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    made = Installation(tmp_path)
    yield made
    made.http.close()
    if made.process is not None and made.process.poll() is None:
        made.stop()
