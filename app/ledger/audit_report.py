"""What an audit finds: sums that differ from what is kept, by check."""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

KEPT = 100
"""Differences of one check that are told one by one; the others are only counted."""

Number = Decimal | int
Value = Number | str


@dataclass(frozen=True, slots=True)
class Difference:
    subject: str
    expected: Value
    found: Value


@dataclass(frozen=True, slots=True)
class Check:
    """`rule`: what must hold. `expected_is`, `found_is`: what the values of its differences are. `differing`: how many
    there are, of which `differences` has the first `KEPT`."""

    name: str
    rule: str
    expected_is: str
    found_is: str
    checked: int
    differing: int
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """`at`: when the snapshot was taken. `users`: those with an account. `rows`: those with a `request_id`; `archived`: those that
    had one and are in files now. `oldest_hold`: its age in seconds, None where nothing is held."""

    at: datetime
    users: int
    rows: int
    archived: int
    holds: int
    oldest_hold: float | None
    checks: tuple[Check, ...]

    @property
    def differing(self) -> int:
        return sum(check.differing for check in self.checks)


@dataclass(slots=True)
class Tally:
    checked: int = 0
    differing: int = 0
    differences: list[Difference] = field(default_factory=list)

    def compare(self, subject: str, expected: Number, found: Number, *, within: Decimal = Decimal(0)) -> None:
        self.checked += 1
        apart = abs(Decimal(expected - found))
        if apart.is_nan() or apart > within:
            self.differ(subject, expected, found)

    def differ(self, subject: str, expected: Value, found: Value) -> None:
        self.differing += 1
        if len(self.differences) < KEPT:
            self.differences.append(Difference(subject, expected, found))
