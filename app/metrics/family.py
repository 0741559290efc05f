"""Families of series: one number, or one row of buckets, for each set of labels.

prometheus-client's own take a lock and up to three calls for each observation; a call makes a dozen of them. Here each is an
addition to a list or a dict, on the event loop alone; the client library writes them down when they are asked for.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import ClassVar, Literal

Labels = tuple[str, ...]
Series = list[float]
"""A counter's or gauge's one number; of a histogram the count of each bucket, of what is above them, and the sum."""

OTHER = "other"
MOST_SERIES = 2000
"""Sets of labels of a family in a process. What comes beyond them is counted as `other`, so that nothing that calls hold, and
nothing that an operator defines, makes Prometheus keep more."""


class Family:
    """`labels` are the names of what tells series apart."""

    kind: ClassVar[Literal["counter", "gauge", "histogram"]]

    def __init__(self, name: str, help_text: str, labels: Sequence[str] = ()) -> None:
        self.name = name
        self.help_text = help_text
        self.labels = tuple(labels)
        self.series: dict[Labels, Series] = {}
        if not labels:
            self.series[()] = self.nothing()

    def nothing(self) -> Series:
        return [0.0]

    def of(self, labels: Labels) -> Series:
        """The series itself, for whoever adds to it often."""
        found = self.series.get(labels)
        if found is None:
            if len(self.series) >= MOST_SERIES:
                labels = (OTHER,) * len(labels)
            found = self.series.setdefault(labels, self.nothing())
        return found


class Counter(Family):
    kind = "counter"

    def add(self, labels: Labels = (), amount: float = 1) -> None:
        self.of(labels)[0] += amount


class Gauge(Family):
    """`across`: what several workers' numbers come to together. `of_one`: each knows the same, as it is the database's."""

    kind = "gauge"

    def __init__(
        self, name: str, help_text: str, labels: Sequence[str] = (), *, across: Literal["sum", "max"] = "sum", of_one: bool = False
    ) -> None:
        super().__init__(name, help_text, labels)
        self.across = "max" if of_one else across
        if of_one:
            self.series.clear()

    def set(self, value: float, labels: Labels = ()) -> None:
        self.of(labels)[0] = float(value)  # of a bool, too

    def clear(self) -> None:
        """Before the series are set that there are now."""
        self.series.clear()


class Histogram(Family):
    """`bounds`: the largest value of each bucket, ascending; above the last there is one more."""

    kind = "histogram"

    def __init__(self, name: str, help_text: str, labels: Sequence[str] = (), *, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        super().__init__(name, help_text, labels)

    def nothing(self) -> Series:
        return [0.0] * (len(self.bounds) + 2)

    def observe(self, value: float, labels: Labels = ()) -> None:
        self.put(value, self.series.get(labels) or self.of(labels))

    def put(self, value: float, series: Series) -> None:
        """`series`: as `of` has given it."""
        series[bisect_left(self.bounds, value)] += 1
        series[-1] += value
