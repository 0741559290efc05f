"""Stretches of time: periods in a time zone, and which kept sums they are made of.

Sums are kept by hour, day and month in UTC. A day of another zone is made of the day in UTC next to it, with the hours between the
two put right; where its zone is half an hour off, of hours, and its first and last hour are taken apart and counted by rows.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import pairwise
from typing import Literal, NamedTuple

Interval = Literal["minute", "hour", "day", "month"]
Span = tuple[datetime, datetime]
"""From, inclusive, until, exclusive; in UTC."""
_HOUR = timedelta(hours=1)
_FEW_DAYS, _FEW_HOURS = timedelta(days=62), timedelta(days=2)


def starts(since: datetime, until: datetime, interval: Interval | None, zone: tzinfo, *, most: int) -> list[datetime]:
    """Where periods begin, in UTC, ascending, from the one that holds `since`. At most `most`, and one more to tell that there are
    more."""
    if interval is None:
        return [since]
    found: list[datetime] = []
    for start in _starts(since, interval, zone):
        if start >= until or len(found) > most:
            break
        if not found or start > found[-1]:
            found.append(start)
    return found


def _starts(since: datetime, interval: Interval, zone: tzinfo) -> Iterator[datetime]:
    if interval in ("minute", "hour"):
        yield from _short_starts(since, interval, zone)
        return
    local = since.astimezone(zone).replace(tzinfo=None, hour=0, minute=0, second=0, microsecond=0)
    if interval == "month":
        local = local.replace(day=1)
    while True:
        yield _first_instant(local, zone)
        local = local + timedelta(days=1) if interval == "day" else (local + timedelta(days=32)).replace(day=1)


def _short_starts(since: datetime, interval: Interval, zone: tzinfo) -> Iterator[datetime]:
    """By what clocks show, but never longer than the interval: an hour that comes twice is two, and offsets may have odd minutes."""
    step = timedelta(minutes=1) if interval == "minute" else _HOUR
    start = since
    while True:
        local = start.astimezone(zone)
        begun = local.replace(second=0, microsecond=0) if interval == "minute" else local.replace(minute=0, second=0, microsecond=0)
        start -= local.replace(tzinfo=None) - begun.replace(tzinfo=None)
        yield start
        start += step


def _first_instant(local: datetime, zone: tzinfo) -> datetime:
    """Of a day, in UTC; where its midnight is left out, when clocks are set forward at it, that instant."""
    found = local.replace(tzinfo=zone, fold=0).astimezone(UTC)
    back = found.astimezone(zone).replace(tzinfo=None)
    if back == local:
        return found
    # left out: the zone's offset before the gap leads past it, that after the gap before it
    early, late = sorted((found, local.replace(tzinfo=zone, fold=1).astimezone(UTC)))
    while late - early > timedelta(seconds=1):
        middle = early + (late - early) / 2
        early, late = (middle, late) if middle.astimezone(zone).replace(tzinfo=None) < local else (early, middle)
    return late.replace(microsecond=0) if not late.microsecond else late.replace(microsecond=0) + timedelta(seconds=1)


@dataclass(slots=True)
class Pieces:
    """What a row of periods is made of, each kind ascending, neighbours joined. `days` belong to the periods between `day_edges`;
    those of the `hours` that lie in another period than their day are in `moved` too, to be taken from it."""

    months: list[Span] = field(default_factory=list)
    days: list[Span] = field(default_factory=list)
    hours: list[Span] = field(default_factory=list)
    rows: list[Span] = field(default_factory=list)
    day_edges: Sequence[datetime] = ()
    moved: list[Span] = field(default_factory=list)

    @property
    def are_few(self) -> bool:
        """Whether sums of these are some thousand rows."""
        return not self.months and _length(self.hours) <= _FEW_HOURS and _length(self.days) <= _FEW_DAYS


def widened(edges: Sequence[datetime], *, of_people: bool, has_start: bool, has_end: bool) -> list[datetime]:
    """An end that nobody has set, beyond which nothing lies, may as well be that of a whole month or day, or else hour: its sums are kept,
    and nothing shorter need be read there."""
    start_of, reaches_next = (_month, timedelta(days=32)) if of_people else (_day, timedelta(days=1))
    since = edges[0] if has_start else start_of(edges[0])
    until = edges[-1]
    if not has_end:
        if start_of(until) < since:
            start_of, reaches_next = _hour, _HOUR
        until = start_of(start_of(until) + reaches_next)
    return [since, *edges[1:-1], until]


def pieces(edges: Sequence[datetime], *, of_people: bool) -> Pieces:
    """Months tell people apart, and days don't, but are fewer."""
    made = Pieces(day_edges=edges)
    first, last = _midnight_from(edges[0]), _day(edges[-1])
    inner = [edge for edge in edges if first < edge < last]
    if of_people or first >= last or len(inner) > (last - first).days or any(edge != _hour(edge) for edge in inner):
        for since, until in pairwise(edges):
            _cut(made, since, until, of_people=of_people)
        return made
    made.day_edges = [_nearest_midnight(edge) if first < edge < last else edge for edge in edges]
    made.moved = [span for edge in inner if (span := _ordered(edge, _nearest_midnight(edge))) is not None]
    for since, until in pairwise(edges):
        _cut(made, since, min(until, first), of_people=False)
    for span in made.moved:
        _join(made.hours, span)
    made.days = [(first, last)]
    for since, until in pairwise(edges):
        _cut(made, max(since, last), until, of_people=False)
    return made


def _length(spans: Sequence[Span]) -> timedelta:
    return sum((until - since for since, until in spans), timedelta())


def _ordered(one: datetime, other: datetime) -> Span | None:
    return (min(one, other), max(one, other)) if one != other else None


def _midnight_from(moment: datetime) -> datetime:
    """The first one not before it."""
    return _day(moment + timedelta(days=1) - timedelta(microseconds=1))


def _nearest_midnight(moment: datetime) -> datetime:
    return _day(moment + timedelta(hours=12))


def _cut(made: Pieces, since: datetime, until: datetime, *, of_people: bool) -> None:
    """From the longest sums to the shortest; what is left over on both sides, with the next shorter."""
    longest = _Level(made.months, _month, timedelta(days=32)) if of_people else _Level(made.days, _day, timedelta(days=1))
    _cut_at([longest, _Level(made.hours, _hour, _HOUR)], made.rows, since, until)


class _Level(NamedTuple):
    spans: list[Span]
    start_of: Callable[[datetime], datetime]
    reaches_next: timedelta


def _cut_at(levels: list[_Level], rows: list[Span], since: datetime, until: datetime) -> None:
    if since >= until:
        return
    if not levels:
        _join(rows, (since, until))
        return
    level, *shorter = levels
    begun, last = level.start_of(since), level.start_of(until)
    first = since if begun == since else level.start_of(begun + level.reaches_next)
    if first >= last:
        _cut_at(shorter, rows, since, until)
        return
    _cut_at(shorter, rows, since, first)
    _join(level.spans, (first, last))
    _cut_at(shorter, rows, last, until)


def _join(spans: list[Span], span: Span) -> None:
    if spans and spans[-1][1] == span[0]:
        span = (spans.pop()[0], span[1])
    spans.append(span)


def _month(moment: datetime) -> datetime:
    return _day(moment).replace(day=1)


def _day(moment: datetime) -> datetime:
    return _hour(moment).replace(hour=0)


def _hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)
