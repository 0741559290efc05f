"""Which of an answer's reports of usage are believed.

Reports in a stream are cumulative, so each count stands at the largest that was told. What can't be true is no report:
the answer is counted here instead, and its row says so.
"""

import re
from dataclasses import dataclass

from app.billing.usage import LARGEST_COUNT, Usage
from app.catalog.routing import ModelLimits
from app.gateway.protocols import CallRequest

BEYOND_REASON = 10
"""How many times a model's context no call uses."""

_REPORT = re.compile(rb'"usage(?:Metadata)?"\s*:\s*\{\s*"')


def most_believable(request: CallRequest, limits: ModelLimits) -> int:
    """Tokens of input or output. Batches of inputs and of choices each have a context of their own."""
    if limits.context_tokens is None:
        return LARGEST_COUNT
    return max(limits.context_tokens * BEYOND_REASON * request.choices, request.input_bound)


def is_reported(text: bytes) -> bool:
    """Whether there is a report at all, be it one that can't be read."""
    return _REPORT.search(text) is not None


@dataclass(slots=True)
class UsageReports:
    """`usage`: what is believed so far; `is_partial`: the output is not in it yet. `unreadable`: the last report can't be
    believed; `shrank`: one told less than one before."""

    most: int = LARGEST_COUNT
    usage: Usage | None = None
    is_partial: bool = False
    unreadable: bool = False
    shrank: bool = False

    def take(
        self, usage: Usage | None, source: bytes, *, is_partial: bool = False, is_addition: bool = False, is_one_more: bool = False
    ) -> None:
        """`usage`: what could be read of the report in `source`, if there is one. What follows a partial report tells only of the
        counts that have changed."""
        if usage is None or (is_addition and self.usage is None):
            self.unreadable = self.unreadable or is_reported(source)
            return
        if max(usage.input_tokens, usage.output_tokens) > self.most:
            self.unreadable = True
            return
        self.unreadable = False
        if self.usage is not None and is_one_more:
            usage = usage.plus(self.usage)
        elif self.usage is not None:
            largest = usage.at_least(self.usage)
            self.shrank = self.shrank or (largest != usage and not self.is_partial)
            usage = largest
        self.usage = usage
        self.is_partial = is_partial

    def flags(self) -> list[str]:
        return [flag for flag, holds in (("usage_unreadable", self.unreadable), ("usage_shrank", self.shrank)) if holds]
