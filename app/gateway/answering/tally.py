"""What an answer has used: as the upstream reported it, where that can be believed, else as it is counted here.

Each finding is a usage and its source: `provider`, `estimated`, or `none` where nothing was delivered. What media use is
measured by their request (`CallRequest.measured`), as their answers hold no text to count.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from app.billing.usage import Usage
from app.gateway.admission.admit import AdmittedCall
from app.gateway.metering.estimate import BYTES_PER_TOKEN, Tokenizer, rough_count
from app.gateway.metering.meter import BodyMeter, StreamMeter
from app.gateway.metering.strict_json import strict_json
from app.gateway.metering.usage_reports import UsageReports, is_reported

Found = tuple[Usage, str]
_NOTHING: Found = (Usage(), "none")


class Tally:
    """One call's. `output_counted`: tokens of the texts that were taken from the meter so far."""

    __slots__ = ("_call", "_measured", "_model", "_protocol", "_tokenizer", "output_counted")

    def __init__(self, call: AdmittedCall, tokenizer: Tokenizer) -> None:
        self._call = call
        self._protocol = call.protocol
        self._model = call.request.model
        self._measured = call.request.measured
        self._tokenizer = tokenizer
        self.output_counted = 0

    async def count(self, meter: StreamMeter) -> None:
        """Counts the texts that the meter keeps. Until that is done they stand at a rough count, should the process stop."""
        texts = meter.take_texts()
        before = self.output_counted
        self.output_counted += rough_count(texts)
        self.output_counted = before + await self._tokenizer.count(self._model, texts)

    async def of_stream(self, meter: StreamMeter, *, has_left: Callable[[], bool]) -> Found:
        """A client that left before the first token came has used its input all the same."""
        found = await self._of_events(meter, has_left)
        return await self._in_priced_measure(*found, meter.take_texts)

    async def of_body(self, meter: BodyMeter, answer: bytes, reports: UsageReports, *, is_whole: bool) -> Found | None:
        """None where nothing can be read of it: of an answer that broke off only what it reported counts."""
        usage = self._protocol.usage_of(answer)
        if usage is None and is_reported(answer):
            usage = self._protocol.usage_of(await asyncio.to_thread(strict_json, answer))
        reports.take(usage, answer)
        found = (reports.usage, "provider") if reports.usage else await self._of_unreported(answer, meter.received) if is_whole else None
        return found and await self._in_priced_measure(*found, partial(self._protocol.answer_texts, answer))

    def at_once(self, meter: StreamMeter) -> Found:
        """Without a tokenizer, as the process stops."""
        if meter.usage is not None and not meter.reports.is_partial:
            return meter.usage, "provider"
        self.output_counted += rough_count(["".join(meter.take_texts())]) + self._unread(meter)
        if meter.usage is not None:
            usage = meter.usage
        elif self._measured.units:
            usage = self._from_request(self._measured)[0] if self._call.record.first_token_at else Usage()
        else:
            usage = self.counted_roughly()
        return usage.at_least(Usage(output_tokens=self.output_counted)), "estimated"

    async def counted(self) -> Usage:
        """The request, and what was taken from the meter."""
        return self._counted(await self._request_tokens())

    def counted_roughly(self) -> Usage:
        return self._counted(rough_count(["".join(self._protocol.request_texts(self._call.request.body))]))

    def _counted(self, request_tokens: int) -> Usage:
        return Usage(
            input_tokens=request_tokens + self._call.request.media_tokens,
            output_tokens=self.output_counted,
            service_tier=self._call.supposed_tier,
        )

    async def _of_events(self, meter: StreamMeter, has_left: Callable[[], bool]) -> Found:
        usage, is_begun = meter.usage, self._call.record.first_token_at is not None
        if usage is None and self._priced_units:
            return self._from_request(self._priced_units) if is_begun else _NOTHING
        if usage is not None and not meter.reports.is_partial and (usage.output_tokens or usage.units):
            return usage, "provider"
        await self.count(meter)
        self.output_counted += self._unread(meter)
        if usage is None:
            expects_text = self._call.request.has_output and not has_left()
            is_nothing = not is_begun if self._measured.units else expects_text and not self.output_counted
            return _NOTHING if is_nothing else await self._estimated()
        if self.output_counted > usage.output_tokens:
            return usage.at_least(Usage(output_tokens=self.output_counted)), "estimated"
        return usage, "provider"

    def _unread(self, meter: StreamMeter) -> int:
        """Tokens of events too large to be read; those of media are no text."""
        return 0 if self._measured.units else meter.unread_bytes // BYTES_PER_TOKEN

    async def _of_unreported(self, answer: bytes, received: int) -> Found | None:
        """An answer that can't be read here, such as one that came compressed all the same, counts by its bytes."""
        is_packed = not answer and received
        texts = self._protocol.answer_texts(answer) or self._protocol.answer_texts(await asyncio.to_thread(strict_json, answer))
        if not is_packed and not texts and (self._call.request.has_output or not answer.lstrip().startswith(b"{")):
            return None
        if self._priced_units:
            return self._from_request(self._priced_units)
        if not is_packed:
            self.output_counted = await self._tokenizer.count(self._model, texts)
        elif not self._measured.units:
            self.output_counted = received // BYTES_PER_TOKEN
        return await self._estimated()

    async def _estimated(self) -> Found:
        if not self._measured.units:
            return await self.counted(), "estimated"
        return self._from_request(self._measured.plus(Usage(input_tokens=await self._request_tokens(), output_tokens=self.output_counted)))

    def _from_request(self, usage: Usage) -> Found:
        """What the request alone tells; where that is in doubt, the row says so."""
        for doubt in self._call.request.doubts:
            self._call.record.flag(doubt)
        return usage, "estimated"

    async def _request_tokens(self) -> int:
        texts = await asyncio.to_thread(self._protocol.request_texts, self._call.request.body)
        return await self._tokenizer.count(self._model, texts)

    @property
    def _priced_units(self) -> Usage | None:
        """What the request tells of the usage, where the price goes by it: then no tokens are counted."""
        units = self._measured.units
        return Usage(units=units) if units and self._call.price.has_rates_for(units) else None

    async def _in_priced_measure(self, usage: Usage, source: str, texts: Callable[[], list[str]]) -> Found:
        """Units that were told without the quality and size that were asked for have these. What was told in units that have no
        price, such as seconds where the model is priced by tokens, is estimated in tokens, too. `texts`: of the output."""
        if not usage.units:
            return usage, source
        asked = self._measured.units
        units = {next((name for name in asked if name.startswith(f"{unit}:")), unit): quantity for unit, quantity in usage.units.items()}
        usage = replace(usage, units=units)
        if usage.has_tokens or not any(units.values()) or self._call.price.has_rates_for(units):
            return usage, source
        self.output_counted += await self._tokenizer.count(self._model, texts())
        estimated, source = await self._estimated()
        return replace(estimated, units=units), source
