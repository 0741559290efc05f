"""Step 6, first half: what a call comes to when its answer has ended, however it did, goes to the ledger.

Usage is what the upstream reported, if that can be believed, else what is counted here. Where nothing was delivered,
nothing is billed.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from app.billing.usage import Usage
from app.gateway.admit import AdmittedCall
from app.gateway.departure import Departure
from app.gateway.estimate import BYTES_PER_TOKEN, Tokenizer, rough_count
from app.gateway.meter import BodyMeter, StreamMeter
from app.gateway.settle import Settling
from app.gateway.strict_json import strict_json
from app.gateway.transport import UpstreamAnswer, without_secret
from app.gateway.usage_reports import UsageReports, is_reported

LEFT = "The client left before the answer was complete."


class _End(NamedTuple):
    status: str
    reason: str
    error: str | None = None


class Conclusion:
    def __init__(self, call: AdmittedCall, answer: UpstreamAnswer, departure: Departure, settling: Settling, tokenizer: Tokenizer) -> None:
        self._call = call
        self._protocol = call.protocol
        self._model = call.request.model
        self._secret = call.route.target.secret
        self._answer = answer
        self._departure = departure
        self._settling = settling
        self._tokenizer = tokenizer
        self._measured = call.request.measured
        self._output_counted = 0

    async def count(self, meter: StreamMeter) -> None:
        """Counts the texts that the meter keeps. Until that is done they stand at a rough count, should the process stop."""
        texts = meter.take_texts()
        before = self._output_counted
        self._output_counted += rough_count(texts)
        self._output_counted = before + await self._tokenizer.count(self._model, texts)

    async def of_stream(self, meter: StreamMeter, broken: str | None) -> None:
        usage, source = await self._used_in_stream(meter)
        has_left = self._departure.has_happened()
        if meter.error:  # clients leave when they are told of one
            end = _End("failed", "upstream_error", meter.error)
        elif has_left:
            end = _End("success", "client_gone", LEFT if self._departure.cancelled else broken or LEFT)
        elif broken:
            end = _End("failed", "upstream_broken", broken)
        elif source == "none":
            end = _End("failed", "upstream_empty", "The upstream ended its stream without an answer.")
        else:
            end = _End("success", "completed")
            if not meter.terminal:
                self._call.record.flag("unterminated")
        self._submit(end, usage, source, meter.reports)
        await self._settling.secured()

    async def _used_in_stream(self, meter: StreamMeter) -> tuple[Usage, str]:
        usage, source = meter.usage, "provider"
        if usage is None and self._measured.units and not self._call.record.first_token_at:
            return Usage(), "none"
        if usage is None and self._priced_units:
            return self._priced_units, "estimated"
        if usage is None or meter.reports.is_partial or not (usage.output_tokens or usage.units):
            await self.count(meter)
            output = self._output_counted + (0 if self._measured.units else meter.unread_bytes // BYTES_PER_TOKEN)
            if usage is None:
                usage, source = await self._estimate(output)
            elif output > usage.output_tokens:
                usage, source = usage.at_least(Usage(output_tokens=output)), "estimated"
        return await self._in_priced_measure(usage, source, meter.take_texts)

    async def of_body(self, meter: BodyMeter, reports: UsageReports, broken: str | None) -> None:
        """An error bills nothing, whatever it reports."""
        answer = meter.answer()
        if self._answer.status >= 400:
            self._submit(_End("failed", "upstream_error", answer.decode("utf-8", "replace")), None, "none")
            await self._settling.secured()
            return
        if self._call.request.is_free and not broken:
            self._submit(_End("success", "client_gone" if self._departure.has_happened() else "completed"), None, "none")
            await self._settling.secured()
            return
        usage, source = await self._reported(answer, reports), "provider"
        if usage is None and not broken:
            usage, source = await self._estimate_body(answer, meter.received)
        if usage is not None:
            usage, source = await self._in_priced_measure(usage, source, partial(self._protocol.answer_texts, answer))
        if broken:
            end = _End("failed", "upstream_broken", broken)
        elif usage is None:
            end = _End("failed", "upstream_empty", "The upstream sent no answer that can be read.")
        elif self._departure.has_happened():
            end = _End("success", "client_gone", LEFT)
        else:
            end = _End("success", "completed")
        self._submit(end, usage, "none" if usage is None else source, reports)
        await self._settling.secured()

    def interrupted(self, meter: StreamMeter) -> None:
        """The process stops: at once, without a tokenizer."""
        if self._settling.is_submitted:
            return
        usage, source = meter.usage, "provider"
        if usage is None or meter.reports.is_partial:
            if usage is None and self._measured.units:
                usage = self._measured if self._call.record.first_token_at else Usage()
            elif usage is None:
                prompt = rough_count(["".join(self._protocol.request_texts(self._call.request.body))])
                usage = Usage(input_tokens=prompt + self._call.request.media_tokens)
            delivered = rough_count(["".join(meter.take_texts())])
            if not self._measured.units:
                delivered += meter.unread_bytes // BYTES_PER_TOKEN
            usage, source = usage.at_least(Usage(output_tokens=self._output_counted + delivered)), "estimated"
        self._submit(_End("failed", "interrupted", "The proxy stopped before this call ended."), usage, source, meter.reports)

    async def _reported(self, answer: bytes, reports: UsageReports) -> Usage | None:
        usage = self._protocol.usage_of(answer)
        if usage is None and is_reported(answer):
            usage = self._protocol.usage_of(await asyncio.to_thread(strict_json, answer))
        reports.take(usage, answer)
        return reports.usage

    async def _estimate_body(self, answer: bytes, received: int) -> tuple[Usage | None, str]:
        """An answer that can't be read here, such as one that came compressed all the same, counts by its bytes."""
        is_packed = not answer and received
        texts = self._protocol.answer_texts(answer) or self._protocol.answer_texts(await asyncio.to_thread(strict_json, answer))
        if not is_packed and not texts and (self._call.request.has_output or not answer.lstrip().startswith(b"{")):
            return None, "none"
        if self._priced_units:
            return self._priced_units, "estimated"
        if is_packed:
            return await self._estimate(0 if self._measured.units else received // BYTES_PER_TOKEN)
        usage, source = await self._estimate(await self._tokenizer.count(self._model, texts))
        return usage, "estimated" if source == "none" else source

    async def _estimate(self, output_tokens: int) -> tuple[Usage, str]:
        """A client that left before the first token came has used its input all the same. Media are measured by their request."""
        if self._measured.units:
            return self._measured.plus(Usage(input_tokens=await self._request_tokens(), output_tokens=output_tokens)), "estimated"
        if not output_tokens and self._call.request.has_output and not self._departure.gone:
            return Usage(), "none"
        return Usage(input_tokens=await self._request_tokens() + self._call.request.media_tokens, output_tokens=output_tokens), "estimated"

    @property
    def _priced_units(self) -> Usage | None:
        """What the request tells of the usage, where the price goes by it: then no tokens are counted."""
        units = self._measured.units
        return Usage(units=units) if units and self._call.price.has_rates_for(units) else None

    async def _request_tokens(self) -> int:
        texts = await asyncio.to_thread(self._protocol.request_texts, self._call.request.body)
        return await self._tokenizer.count(self._model, texts)

    async def _in_priced_measure(self, usage: Usage, source: str, texts: Callable[[], list[str]]) -> tuple[Usage, str]:
        """Units that were told without the quality and size that were asked for have these. What was told in units that have no
        price, such as seconds where the model is priced by tokens, is estimated in tokens, too. `texts`: of the output."""
        if not usage.units:
            return usage, source
        asked = self._measured.units
        units = {next((name for name in asked if name.startswith(f"{unit}:")), unit): quantity for unit, quantity in usage.units.items()}
        usage = replace(usage, units=units)
        if usage.has_tokens or not any(units.values()) or self._call.price.has_rates_for(units):
            return usage, source
        output = self._output_counted + await self._tokenizer.count(self._model, texts())
        estimated, source = await self._estimate(output)
        return replace(estimated, units=units), source

    def _submit(self, end: _End, usage: Usage | None, source: str, reports: UsageReports | None = None) -> None:
        for flag in reports.flags() if reports else ():
            self._call.record.flag(flag)
        self._settling.submit(
            self._call.record.outcome(
                status=end.status,
                end_reason=end.reason,
                http_status=self._answer.status,
                usage=usage,
                usage_source=source,
                error=end.error and without_secret(end.error.encode("utf-8", "replace"), self._secret).decode(),
                attempts=self._call.attempts,
            )
        )
