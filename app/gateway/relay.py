"""Steps 4 to 6 for one answer: it passes the meter on its way to the client, is priced, and settled before its last byte.

the answer ends             usage as reported, else counted
the client leaves           a stream is cancelled upstream, and what was delivered is counted
the upstream breaks off     what was delivered is counted; the client gets an error event, or its connection is cut
"""

import structlog

from app.billing.usage import Usage
from app.errors import UpstreamFailed
from app.gateway.admit import AdmittedCall
from app.gateway.client import Client
from app.gateway.estimate import FOLD_AT, Tokenizer
from app.gateway.forward import answer_headers
from app.gateway.meter import BodyMeter, StreamMeter
from app.gateway.settle import Settling
from app.gateway.transport import UpstreamAnswer, UpstreamBroken
from app.runtime.tasks import OwnedTasks

log = structlog.get_logger(__name__)


class Relay:
    def __init__(self, call: AdmittedCall, answer: UpstreamAnswer, client: Client, settling: Settling, tokenizer: Tokenizer) -> None:
        self._call = call
        self._protocol = call.protocol
        self._record = call.record
        self._answer = answer
        self._client = client
        self._settling = settling
        self._tokenizer = tokenizer
        self._client_gone = False
        self._output_counted = 0

    async def stream(self, tasks: OwnedTasks) -> None:
        meter = StreamMeter(self._protocol, strips=self._call.asks_usage)
        await self._start()
        watch = tasks.spawn(self._client.when_gone(self._leave), name="client watch")
        broken: str | None = None
        try:
            async for chunk in self._answer.chunks():
                passing = meter.feed(chunk)
                if passing:
                    self._record.saw_first_token()
                    await self._client.send(passing)
                    if meter.delivered_bytes > FOLD_AT:
                        await self._count_delivered(meter)
                if meter.terminal or self._client_gone:
                    break
        except UpstreamBroken as cut:
            broken = str(cut)
        meter.finish()
        await self._settle_stream(meter, broken)
        watch.cancel()
        if broken and not self._client_gone:
            error = UpstreamFailed(f"The answer is incomplete: {broken}. What came so far has been billed.", code="upstream_broken")
            await self._client.send(self._protocol.error_event(error), more=False)
            return
        await self._client.send(meter.release())
        await self._pass_rest()

    async def body(self) -> None:
        meter = BodyMeter(length=self._answer.length, encoding=self._answer.encoding)
        broken: str | None = None
        try:
            async for chunk in self._answer.chunks():
                passing = meter.feed(chunk)
                if passing:
                    await self._start()
                    await self._client.send(passing)
        except UpstreamBroken as cut:
            broken = str(cut)
        await self._settle_body(meter, broken)
        if broken:
            await self._break_off(broken)
            return
        await self._start()
        await self._client.send(meter.release(), more=False)

    async def _start(self) -> None:
        if not self._client.started:
            headers = answer_headers(self._answer)
            if self._call.output_limit_applied is not None:
                headers.append((b"x-max-tokens-applied", str(self._call.output_limit_applied).encode()))
            await self._client.start(self._answer.status, headers)

    def _leave(self) -> None:
        self._client_gone = True
        if not self._settling.is_submitted:
            self._answer.close()

    async def _settle_stream(self, meter: StreamMeter, broken: str | None) -> None:
        error = meter.error
        if self._client_gone:
            status, reason, error = "success", "client_gone", error or "The client left before the answer was complete."
        elif broken:
            status, reason, error = "failed", "upstream_broken", error or broken
        elif meter.error:
            status, reason = "failed", "upstream_error"
        else:
            status, reason = "success", "completed"
        usage, source = meter.usage, "provider"
        if usage is None:
            await self._count_delivered(meter)
            usage, source = await self._estimated(self._output_counted), "estimated"
        self._submit(status, reason, usage, source, error)
        await self._settling.committed()

    async def _settle_body(self, meter: BodyMeter, broken: str | None) -> None:
        usage = self._protocol.usage_of(meter.answer()) if not broken else None
        source = "provider" if usage else "none"
        if broken:
            self._submit("failed", "upstream_broken", None, "none", broken)
        elif self._answer.status >= 400:
            self._submit("failed", "upstream_error", usage, source, _snippet(meter.answer()))
        else:
            if usage is None:
                texts = self._protocol.answer_texts(meter.answer())
                usage, source = await self._estimated(await self._tokenizer.count(self._call.request.model, texts)), "estimated"
            self._submit("success", "completed", usage, source, None)
        await self._settling.committed()

    def _submit(self, status: str, reason: str, usage: Usage | None, source: str, error: str | None) -> None:
        self._settling.submit(
            self._record.outcome(
                status=status,
                end_reason=reason,
                http_status=self._answer.status,
                usage=usage,
                usage_source=source,
                error=error,
                attempts=self._call.attempts,
            )
        )

    async def _count_delivered(self, meter: StreamMeter) -> None:
        texts = self._protocol.answer_texts(meter.take_delivered())
        self._output_counted += await self._tokenizer.count(self._call.request.model, texts)

    async def _estimated(self, output_tokens: int) -> Usage:
        texts = self._protocol.request_texts(self._call.request.body)
        return Usage(input_tokens=await self._tokenizer.count(self._call.request.model, texts), output_tokens=output_tokens)

    async def _pass_rest(self) -> None:
        """What comes after the terminal event is passed on to the end of the body, which frees the connection."""
        try:
            async for chunk in self._answer.chunks():
                await self._client.send(chunk)
        except UpstreamBroken:
            log.info("the upstream broke off after its terminal event", request_id=str(self._record.request_id))
        await self._client.send(b"", more=False)

    async def _break_off(self, broken: str) -> None:
        """An answer of which nothing has left can still say what went wrong. A part of one is left unfinished, at which
        the server cuts the connection, so that the client notices."""
        if not self._client.started:
            error = UpstreamFailed(f"The upstream's answer is incomplete: {broken}. Try again.", code="upstream_broken")
            await self._client.send_error(self._protocol, error)


def _snippet(answer: bytes) -> str:
    return answer[:2000].decode("utf-8", "replace")
