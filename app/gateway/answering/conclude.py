"""Step 6, first half: how a call ended, and what it used, goes to the ledger when its answer has ended, however it did.

`tally.py` says what was used; where nothing was delivered, nothing is billed. A call that goes on in the background has no
end yet: it is deferred, and `background.py` ends it.
"""

from dataclasses import replace
from typing import NamedTuple

from app.billing.usage import Usage
from app.gateway.admission.admit import AdmittedCall
from app.gateway.answering.departure import Departure
from app.gateway.answering.settle import Settling
from app.gateway.answering.tally import Found, Tally
from app.gateway.forwarding.attempt import reported_cost
from app.gateway.forwarding.transport import UpstreamAnswer
from app.gateway.masking import masked, without_secret
from app.gateway.metering.estimate import Tokenizer
from app.gateway.metering.meter import BodyMeter, StreamMeter
from app.gateway.metering.usage_reports import UsageReports, most_believable
from app.gateway.protocols.kept import Kept, kept_in

LEFT = "The client left before the answer was complete."
_UNUSED: Found = (Usage(), "none")


class _End(NamedTuple):
    status: str
    reason: str
    error: str | None = None


class Conclusion:
    __slots__ = ("_answer", "_call", "_departure", "_settling", "_tally", "count")

    def __init__(self, call: AdmittedCall, answer: UpstreamAnswer, departure: Departure, settling: Settling, tokenizer: Tokenizer) -> None:
        self._call = call
        self._answer = answer
        self._departure = departure
        self._settling = settling
        self._tally = Tally(call, tokenizer)
        self.count = self._tally.count

    async def of_stream(self, meter: StreamMeter, broken: str | None) -> None:
        if meter.kept is not None and await self._is_deferred(meter.kept, meter):
            return
        found = await self._tally.of_stream(meter, has_left=lambda: self._departure.gone)
        has_left = self._departure.has_happened()
        if meter.error:  # clients leave when they are told of one
            end = _End("failed", "upstream_error", meter.error)
        elif has_left:
            end = _End("success", "client_gone", LEFT if self._departure.cancelled else broken or LEFT)
        elif broken:
            end = _End("failed", "upstream_broken", broken)
        elif found[1] == "none":
            end = _End("failed", "upstream_empty", "The upstream ended its stream without an answer.")
        else:
            end = _End("success", "completed")
            if not meter.terminal:
                self._call.record.flag("unterminated")
        await self._settle(end, found, meter.reports)

    async def of_body(self, meter: BodyMeter, reports: UsageReports, broken: str | None) -> None:
        """An error bills nothing, whatever it reports."""
        answer = without_secret(meter.answer(), self._call.secret)
        if self._answer.status >= 400:
            self._call.attempts[-1] |= reported_cost(self._call, answer)
            await self._settle(_End("failed", "upstream_error", answer.decode("utf-8", "replace")), _UNUSED)
            return
        if self._call.request.is_free and not broken:
            await self._settle(_End("success", "client_gone" if self._departure.has_happened() else "completed"), _UNUSED)
            return
        if self._call.request.is_kept and (kept := kept_in(answer)) is not None:
            self._call.record.keeps(kept, secret=self._call.secret)
            if self._call.request.is_background and kept.is_under_way:
                await self._defer(kept)
                return
        found = await self._tally.of_body(meter, answer, reports, is_whole=not broken)
        if broken:
            end = _End("failed", "upstream_broken", broken)
        elif found is None:
            end = _End("failed", "upstream_empty", "The upstream sent no answer that can be read.")
        elif self._departure.has_happened():
            end = _End("success", "client_gone", LEFT)
        else:
            end = _End("success", "completed")
        await self._settle(end, found or _UNUSED, reports)

    def interrupted(self, meter: StreamMeter) -> None:
        """The process stops: at once, without a tokenizer."""
        if self._settling.is_submitted:
            return
        found = self._tally.at_once(meter)
        if meter.kept is not None and self._goes_on(meter.kept, meter):
            self._call.record.keeps(meter.kept, secret=self._call.secret)
            self._submit_deferral(meter.kept, self._tally.counted_roughly())
            return
        self._submit(_End("failed", "interrupted", "The proxy stopped before this call ended."), found, meter.reports)

    async def _is_deferred(self, kept: Kept, meter: StreamMeter) -> bool:
        """Notes what is kept, and defers a call that goes on though its stream has ended, however that did."""
        if not self._call.request.is_kept:
            return False
        self._call.record.keeps(kept, secret=self._call.secret)
        if not self._goes_on(kept, meter):
            return False
        self._departure.end()
        await self._tally.count(meter)
        await self._defer(kept)
        return True

    def _goes_on(self, kept: Kept, meter: StreamMeter) -> bool:
        """Whether the upstream works on, though nothing of it arrives here any more. It says so itself: one that doesn't know
        `background` bills what was delivered."""
        return self._call.request.is_background and kept.is_background and not meter.terminal

    async def _defer(self, kept: Kept) -> None:
        self._submit_deferral(kept, await self._tally.counted())
        await self._settling.secured()

    def _submit_deferral(self, kept: Kept, counted: Usage) -> None:
        most = most_believable(self._call.request, self._call.limits)
        self._settling.submit(self._call.record.deferral(kept.id, counted=counted, most=most, attempts=self._call.attempts))

    async def _settle(self, end: _End, found: Found, reports: UsageReports | None = None) -> None:
        self._submit(end, found, reports)
        await self._settling.secured()

    def _submit(self, end: _End, found: Found, reports: UsageReports | None) -> None:
        for flag in reports.flags() if reports else ():
            self._call.record.flag(flag)
        secret = self._call.secret
        self._settling.submit(
            self._call.record.outcome(
                status=end.status,
                end_reason=end.reason,
                http_status=self._answer.status,
                usage=_named_without(secret, found[0]),
                usage_source=found[1],
                error=end.error and masked(end.error, secret),
                attempts=self._call.attempts,
            )
        )


def _named_without(secret: str | None, usage: Usage) -> Usage:
    """The usage, whose names are the upstream's own words: of its tier, and of other models."""
    if usage.service_tier is None and not usage.others:
        return usage
    tier = usage.service_tier and masked(usage.service_tier, secret)
    return replace(usage, service_tier=tier, others={masked(name, secret): used for name, used in usage.others.items()})
