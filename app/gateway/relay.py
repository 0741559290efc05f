"""Steps 4 to 6 for one answer: it passes the meter on its way to the client, is priced, and settled before its last byte.

the answer ends             usage as reported, else counted
the client leaves           a stream is cancelled upstream, and what was delivered is counted
the upstream breaks off     of a stream, what was delivered is counted, and the client gets an error event; any other
                            answer is of no use to the client and billed only if it holds its usage, and is cut off
the process stops           of a stream, what was delivered is counted roughly, as time is short; any other answer is free
"""

import asyncio

import structlog

from app.billing.usage import Usage
from app.errors import UpstreamFailed
from app.gateway.admit import AdmittedCall
from app.gateway.client import Client
from app.gateway.estimate import BYTES_PER_TOKEN, Tokenizer, rough_count
from app.gateway.forward import answer_headers
from app.gateway.meter import BodyMeter, StreamMeter
from app.gateway.settle import Settling
from app.gateway.transport import UpstreamAnswer, UpstreamBroken, without_secret
from app.runtime.tasks import OwnedTasks

log = structlog.get_logger(__name__)

REST_WAIT = 5.0
"""Seconds in which an upstream has to end its answer after the terminal event."""


class Relay:
    def __init__(self, call: AdmittedCall, answer: UpstreamAnswer, client: Client, settling: Settling, tokenizer: Tokenizer) -> None:
        self._call = call
        self._protocol = call.protocol
        self._model = call.request.model
        self._secret = call.route.target.secret
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
        try:
            broken = await self._pass_events(meter)
            meter.finish()
            await self._settle_stream(meter, broken)
        except asyncio.CancelledError:
            self._submit_roughly(meter)
            raise
        finally:
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
        chunks = self._answer.chunks() if self._answer.status < 400 else self._answer.error_chunks(self._secret)
        try:
            async for chunk in chunks:
                passing = meter.feed(chunk)
                if passing:
                    await self._start()
                    await self._client.send(passing)
        except UpstreamBroken as cut:
            broken = str(cut)
        await self._settle_body(meter.answer(), meter.received, broken)
        if broken:
            await self._break_off(broken)
            return
        await self._start()
        await self._client.send(meter.release(), more=False)

    async def _pass_events(self, meter: StreamMeter) -> str | None:
        """Until the terminal event, or the end of the answer; returns why it broke off, if it did."""
        try:
            async for chunk in self._answer.chunks():
                passing = meter.feed(chunk)
                if passing:
                    self._call.record.saw_first_token()
                    await self._client.send(without_secret(passing, self._secret) if meter.error else passing)
                if meter.texts_are_many:
                    self._output_counted += await self._tokenizer.count(self._model, meter.take_texts())
                if meter.terminal or self._client_gone:
                    break
        except UpstreamBroken as cut:
            return str(cut)
        return None

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
        usage, source = meter.usage, "provider"
        if usage is None:
            output = self._output_counted + await self._tokenizer.count(self._model, meter.take_texts())
            usage, source = await self._estimate(output + meter.unread_bytes // BYTES_PER_TOKEN)
        error = meter.error or broken
        if self._client_gone:
            self._submit("success", "client_gone", usage, source, meter.error or "The client left before the answer was complete.")
        elif error:
            self._submit("failed", "upstream_broken" if broken else "upstream_error", usage, source, error)
        elif source == "none":
            self._submit("failed", "upstream_empty", usage, source, "The upstream ended its stream without an answer.")
        else:
            self._submit("success", "completed", usage, source, None)
        await self._settling.committed()

    async def _settle_body(self, answer: bytes, received: int, broken: str | None) -> None:
        if self._answer.status >= 400:
            self._submit("failed", "upstream_error", None, "none", answer.decode("utf-8", "replace"))
            await self._settling.committed()
            return
        usage: Usage | None
        usage, source = self._protocol.usage_of(answer), "provider"
        if usage is None and not broken:
            usage, source = await self._estimate_body(answer, received)
        if usage is None:
            source = "none"
        if broken:
            self._submit("failed", "upstream_broken", usage, source, broken)
        elif usage is None:
            self._submit("failed", "upstream_empty", None, source, "The upstream sent no answer that can be read.")
        else:
            self._submit("success", "completed", usage, source, None)
        await self._settling.committed()

    async def _estimate_body(self, answer: bytes, received: int) -> tuple[Usage | None, str]:
        """An answer that can't be read here, such as one that came compressed all the same, counts by its bytes."""
        if not answer and received:
            return await self._estimate(received // BYTES_PER_TOKEN)
        texts = self._protocol.answer_texts(answer)
        if not texts and (self._call.request.has_output or not answer.lstrip().startswith(b"{")):
            return None, "none"
        usage, source = await self._estimate(await self._tokenizer.count(self._model, texts))
        return usage, "estimated" if source == "none" else source

    async def _estimate(self, output_tokens: int) -> tuple[Usage, str]:
        """Where nothing was delivered, nothing is billed."""
        if not output_tokens and self._call.request.has_output and not self._client_gone:
            return Usage(), "none"
        texts = await asyncio.to_thread(self._protocol.request_texts, self._call.request.body)
        counted = await self._tokenizer.count(self._model, texts)
        return Usage(input_tokens=counted + self._call.request.media_tokens, output_tokens=output_tokens), "estimated"

    def _submit_roughly(self, meter: StreamMeter) -> None:
        if self._settling.is_submitted:
            return
        usage, source = meter.usage, "provider"
        if usage is None:
            delivered = rough_count(["".join(meter.take_texts())]) + meter.unread_bytes // BYTES_PER_TOKEN
            prompt = rough_count(["".join(self._protocol.request_texts(self._call.request.body))])
            usage = Usage(input_tokens=prompt + self._call.request.media_tokens, output_tokens=self._output_counted + delivered)
            source = "estimated"
        self._submit("failed", "interrupted", usage, source, "The proxy stopped before this call ended.")

    def _submit(self, status: str, reason: str, usage: Usage | None, source: str, error: str | None) -> None:
        self._settling.submit(
            self._call.record.outcome(
                status=status,
                end_reason=reason,
                http_status=self._answer.status,
                usage=usage,
                usage_source=source,
                error=error and without_secret(error.encode(), self._secret).decode(),
                attempts=self._call.attempts,
            )
        )

    async def _pass_rest(self) -> None:
        """What comes after the terminal event is passed on to the end of the body, which frees the connection."""
        try:
            async with asyncio.timeout(REST_WAIT):
                async for chunk in self._answer.chunks():
                    await self._client.send(chunk)
        except (UpstreamBroken, TimeoutError):
            log.info("the upstream went on after its terminal event", request_id=str(self._call.record.request_id))
        await self._client.send(b"", more=False)

    async def _break_off(self, broken: str) -> None:
        """An answer of which nothing has left can still say what went wrong. A part of one is left unfinished, at which
        the server cuts the connection, so that the client notices."""
        if not self._client.started:
            error = UpstreamFailed(f"The upstream's answer is incomplete: {broken}. Try again.", code="upstream_broken")
            await self._client.send_error(self._protocol, error)
