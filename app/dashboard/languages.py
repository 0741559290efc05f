"""The languages of the dashboard: a dictionary a file in `strings/`, and which of them a browser is shown."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

COOKIE = "billing-proxy-language"
_PLACE = Path(__file__).parent / "strings"


@dataclass(frozen=True, slots=True)
class Language:
    """`words` by section and name, as in `words["calls"]["empty"]`."""

    code: str
    words: Mapping[str, Any]

    @classmethod
    def load(cls, code: str) -> Self:
        return cls(code, json.loads((_PLACE / f"{code}.json").read_text("utf-8")))

    def __call__(self, name: str, **values: object) -> str:
        """`{place}` is filled in from `values`. Raises `KeyError` for a name that isn't there."""
        found: Any = self.words
        for part in name.split("."):
            found = found[part]
        return str(found).format_map(values) if values else str(found)


LANGUAGES = {code: Language.load(code) for code in ("en", "zh")}


def language_for(cookie: str | None, accepted: str) -> Language:
    """`accepted`: the header `Accept-Language`, whose order counts where no weights do. RFC 9110, 12.5.4."""
    if cookie in LANGUAGES:
        return LANGUAGES[cookie]
    wanted = sorted(map(_weighed, accepted.split(",")), key=lambda choice: -choice[1])
    return next((LANGUAGES[code] for code, weight in wanted if code in LANGUAGES and weight > 0), LANGUAGES["en"])


def _weighed(choice: str) -> tuple[str, float]:
    name, _, weight = choice.partition(";")
    try:
        return name.strip().lower().partition("-")[0], float(weight.partition("=")[2] or 1)
    except ValueError:
        return "", 0.0
