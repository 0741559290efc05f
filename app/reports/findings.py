"""What `billing-proxy doctor` finds: one line for each thing that was looked at."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "wrong"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`area`: such as `database`. `says`: what was found; `do`: what to do about it, where it isn't ok."""

    area: str
    state: State
    says: str
    do: str | None = None


def ok(area: str, says: str) -> Finding:
    return Finding(area, "ok", says)


def warning(area: str, says: str, do: str) -> Finding:
    return Finding(area, "warning", says, do)


def wrong(area: str, says: str, do: str) -> Finding:
    return Finding(area, "wrong", says, do)
