"""What a client's calls must have left: one row each, with the upstream's counts, billed to the last digit."""

from typing import Any

from tests.harness.answers import Usage
from tests.harness.books import Rates, bills, charge, wait_until
from tests.harness.scene import Scene

COUNTS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")


def assert_each_call_billed(scene: Scene, calls: int, *, rates: Rates | None = None) -> list[dict[str, Any]]:
    """Of calls that the stand-in answered honestly, in their order."""
    assert len(scene.upstream.ledger) == calls
    return assert_rows(scene, [_counts(usage) for usage in scene.upstream.ledger], rates=rates)


def assert_rows(scene: Scene, told: list[dict[str, int]], *, rates: Rates | None = None) -> list[dict[str, Any]]:
    """`told`: of each call, the counts that the upstream told; what is not named is 0."""
    wait_until(lambda: len(scene.rows()) >= len(told), what=f"{len(told)} rows of {scene.user}")
    rows = scene.rows()
    assert [{name: row[name] or 0 for name in COUNTS} for row in rows] == [dict.fromkeys(COUNTS, 0) | counts for counts in told]
    expected = [charge(rates or scene.rates, row) for row in rows]
    assert [row["charge"] for row in rows] == expected
    assert [row["bill"] for row in rows] == bills(expected)
    assert {(row["status"], row["usage_source"], row["flags"]) for row in rows} == {("success", "provider", None)}
    assert len({row["request_id"] for row in rows}) == len(told)
    return rows


def _counts(usage: Usage) -> dict[str, int]:
    return {
        "input_tokens": usage.input,
        "output_tokens": usage.output,
        "cache_read_tokens": usage.cached,
        "reasoning_tokens": usage.reasoning,
    }
