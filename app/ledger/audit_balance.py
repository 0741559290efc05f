"""Rows against their roll-ups, as the audit compares them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from app.ledger.audit_report import Number, Tally


class Group(NamedTuple):
    """What roll-ups tell apart, but for the key."""

    hour: datetime | None
    user_id: str
    model_name: str
    upstream_id: int
    api: str
    status: str
    is_local: bool


WIDTH = len(Group._fields)
_TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
HISTOGRAMS = ("latencies", "first_tokens")
MEASURES = ("calls", *_TOKENS, "charge", "bill", "write_off", "upstream_cost", *HISTOGRAMS)
CHARGE, BILL, WRITE_OFF = 6, 7, 8


class Balance:
    """Measures of rows less those of their roll-ups, by group and key. What is even is forgotten: as roll-ups are taken in
    the order of their hours, and rows are about so by their ids, no more is kept than a few hours and what differs."""

    def __init__(self) -> None:
        self._groups: dict[Group, dict[int | None, list[Number]]] = defaultdict(dict)
        self._touched: set[Group] = set()

    def add(self, group: Group, key: int | None, measures: Sequence[Number], sign: int) -> None:
        self._touched.add(group)
        add(self._groups[group].setdefault(key, zero()), measures, sign)

    def forget_even(self) -> None:
        for group in self._touched:
            if not any(any(sums) for sums in _comparable(self._groups[group]).values()):
                del self._groups[group]
        self._touched.clear()

    def tell(self, tally: Tally) -> None:
        for group, keys in sorted(self._groups.items(), key=str):
            for key, sums in _comparable(keys).items():
                if any(sums):
                    tally.differ(_described(group, key), listed(sums, 1), listed(sums, -1))


def exact(measures: Sequence[Number]) -> list[Number]:
    """As they can be added: a histogram has more digits than decimals are added with. One that is no number is as good as any."""
    money, histograms = measures[: -len(HISTOGRAMS)], measures[-len(HISTOGRAMS) :]
    return [*money, *(int(part) if Decimal(part).is_finite() else -1 for part in histograms)]


def zero() -> list[Number]:
    return [0] * len(MEASURES)


def add(sums: list[Number], measures: Sequence[Number], sign: int = 1) -> None:
    for number, measure in enumerate(measures):
        sums[number] += sign * measure


def _comparable(keys: Mapping[int | None, list[Number]]) -> Mapping[int | None, list[Number]]:
    """By key; or all in one, if rows without a key are left over, which may be those of any key that is gone."""
    return {None: [sum(parts) for parts in zip(*keys.values(), strict=True)]} if any(keys.get(None, ())) else keys


def _described(group: Group, key: int | None) -> str:
    hour = f"{group.hour:%Y-%m-%d %H:00}" if group.hour else "no hour"
    of = (group.model_name, f"upstream {group.upstream_id}", group.api, group.status, "local" if group.is_local else "")
    return ", ".join(part for part in (hour, group.user_id, f"key {key}" if key else "all keys", *of) if part)


def listed(sums: Sequence[Number], sign: int) -> str:
    """The measures of this sign; what is no number has that of rows."""
    signed = [(name, sign * Decimal(part)) for name, part in zip(MEASURES, sums, strict=True)]
    found = [(name, part) for name, part in signed if (sign > 0 if part.is_nan() else part > 0)]
    return ", ".join(f"other {name}" if name in HISTOGRAMS else f"{name} {part:f}" for name, part in found) or "nothing"
