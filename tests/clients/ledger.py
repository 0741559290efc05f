"""What a client's calls must have left: one row each, with the upstream's counts, billed to the last digit."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from tests.harness.answers import Usage
from tests.harness.books import Rates, bills, charge, wait_until
from tests.harness.scene import Scene

COUNTS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")


def assert_each_call_billed(scene: Scene, calls: int) -> list[dict[str, Any]]:
    """Of calls that the stand-in answered honestly, in their order."""
    assert len(scene.upstream.ledger) == calls
    return assert_rows(scene, [_counts(usage) for usage in scene.upstream.ledger])


def assert_rows(scene: Scene, told: list[dict[str, int] | None], *, prices: Mapping[str, Rates] | None = None) -> list[dict[str, Any]]:
    """`told`: of each call, the counts that the upstream told; what is not named is 0. None: the call is free. `prices`: by
    model, where there are several."""
    wait_until(lambda: len(scene.rows()) >= len(told), what=f"{len(told)} rows of {scene.user}")
    rows = scene.rows()
    assert [{name: row[name] or 0 for name in COUNTS} for row in rows] == [dict.fromkeys(COUNTS, 0) | (counts or {}) for counts in told]
    prices = prices or {scene.model: scene.rates}
    expected = [Decimal(0) if counts is None else charge(prices[row["model_name"]], row) for row, counts in zip(rows, told, strict=True)]
    assert [row["charge"] for row in rows] == expected
    assert [row["bill"] for row in rows] == bills(expected)
    sources = ["none" if counts is None else "provider" for counts in told]
    assert [(row["status"], row["usage_source"], row["flags"]) for row in rows] == [("success", source, None) for source in sources]
    assert len({row["request_id"] for row in rows}) == len(told)
    return rows


def _counts(usage: Usage) -> dict[str, int]:
    return {
        "input_tokens": usage.input,
        "output_tokens": usage.output,
        "cache_read_tokens": usage.cached,
        "reasoning_tokens": usage.reasoning,
    }
