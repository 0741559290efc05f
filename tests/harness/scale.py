"""How much of the fault suite runs: all of it where FAULTS=full, else a short form that leaves the machine to other tests."""

import os

IS_FULL = os.environ.get("FAULTS") == "full"


def scaled(*, full: int, short: int) -> int:
    return full if IS_FULL else short
