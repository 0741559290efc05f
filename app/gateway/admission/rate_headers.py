"""`x-ratelimit-*`, as OpenAI's clients read them: https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers.
And `retry-after-ms`, which they prefer to the whole seconds of `Retry-After`, in which many would come at once:
https://github.com/openai/openai-python/blob/main/src/openai/_base_client.py"""

from math import ceil

from app.ledger.hold import Decision, Rate


def rate_headers(decision: Decision) -> dict[str, str]:
    """Of the limits that the call's key or user has."""
    return _headers("requests", decision.requests) | _headers("tokens", decision.tokens)


def retry_headers(seconds: float | None) -> dict[str, str]:
    return {"retry-after-ms": str(ceil(seconds * 1000))} if seconds else {}


def _headers(kind: str, rate: Rate | None) -> dict[str, str]:
    if rate is None:
        return {}
    full_in = (rate.limit - rate.left) * 60 / rate.limit
    return {
        f"x-ratelimit-limit-{kind}": str(rate.limit),
        f"x-ratelimit-remaining-{kind}": str(int(rate.left)),
        f"x-ratelimit-reset-{kind}": f"{max(full_in, 0):.3f}s",
    }
