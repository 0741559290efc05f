"""The worked examples of docs/billing.md: blocks of lines, of which the first ones say what is given, and the rest what comes of it."""

import re
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "billing.md"
GIVEN = frozenset({"price", "upstream", "group", "limits", "available", "asks", "reports", "credit", "call"})


@dataclass(frozen=True)
class Example:
    """`given`: (keyword, rest of its line). `results`: lines."""

    given: tuple[tuple[str, str], ...]
    results: tuple[str, ...]

    def __str__(self) -> str:
        return "; ".join(f"{name} {rest}" for name, rest in self.given)

    def first(self, name: str) -> str | None:
        return next((rest for keyword, rest in self.given if keyword == name), None)


def examples(first: str) -> list[Example]:
    """Those that begin with this keyword."""
    return [_read(block) for block in re.findall(r"```text\n(.*?)```", PAGE.read_text(), re.DOTALL) if block.startswith(first)]


def _read(block: str) -> Example:
    lines = [(*line.split(maxsplit=1), "")[:2] for line in block.splitlines()]
    given = tuple((name, rest) for name, rest in lines if name in GIVEN)
    return Example(given, tuple(" ".join(f"{name} {rest}".split()) for name, rest in lines if name not in GIVEN))
