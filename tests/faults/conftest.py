"""How long the fault suite runs, and what it counts.

`make test-faults` is the long form (FAULTS=full); `make test` has the short form of each row. Each row says how many faults
it asked for, and counts those that it reached; the long form ends with a table of them, also when tests run in parallel:
the counts travel with the reports of the tests, the last of which is that of the teardown.
"""

from collections.abc import Callable
from typing import Any

import pytest

from tests.harness.scale import IS_FULL, scaled

_PROPERTY = "tally"


@pytest.fixture(scope="session")
def scale() -> Callable[..., int]:
    return scaled


class Tally:
    """`reached` counts up to `asked`, or beyond it."""

    def __init__(self, record: dict[str, Any]) -> None:
        self._record = record

    def add(self, number: int = 1) -> None:
        self._record["reached"] += number

    @property
    def asked(self) -> int:
        return int(self._record["asked"])

    @property
    def reached(self) -> int:
        return int(self._record["reached"])

    @property
    def is_complete(self) -> bool:
        return self.reached >= self.asked


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Callable[[str, str, int], Tally]:
    """`tally("SIGKILL at named points", "kills", 200)`: rows of the same name, of several tests, are added up."""

    def start(fault: str, unit: str, asked: int) -> Tally:
        record = {"fault": fault, "unit": unit, "asked": asked, "reached": 0}
        request.node.user_properties.append((_PROPERTY, record))
        return Tally(record)

    return start


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    rows = _rows(terminalreporter)
    if not IS_FULL or not rows:
        return
    terminalreporter.section("faults")
    width = max(len(fault) for fault, _ in rows)
    for (fault, unit), (asked, reached) in sorted(rows.items()):
        terminalreporter.write_line(f"{fault:<{width}}  {reached:>9} of {asked:>9} {unit}{'' if reached >= asked else '   <- too few'}")


def _rows(reporter: pytest.TerminalReporter) -> dict[tuple[str, str], tuple[int, int]]:
    reports = [one for some in reporter.stats.values() for one in some if isinstance(one, pytest.TestReport) and one.when == "teardown"]
    rows: dict[tuple[str, str], tuple[int, int]] = {}
    for report in reports:
        for name, record in report.user_properties:
            if name == _PROPERTY and isinstance(record, dict):
                asked, reached = rows.get((record["fault"], record["unit"]), (0, 0))
                rows[record["fault"], record["unit"]] = (asked + record["asked"], reached + record["reached"])
    return rows
