"""Step 4: an answer passes the meter on its way to the client, and its end waits until the call is settled.

the answer ends             usage as reported, else counted
the client leaves           a stream is cancelled upstream or read on, as `departure` has it; any other answer is read on
the upstream breaks off     of a stream, what was delivered is counted, and the client gets an error event; any other
                            answer is of no use to the client and billed only if it holds its usage, and is cut off
the process stops           of a stream, what was delivered is counted roughly, as time is short; any other answer is free
"""

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal

import structlog

from app.errors import UpstreamFailed
from app.gateway.admission.admit import AdmittedCall
from app.gateway.answering.conclude import Conclusion
from app.gateway.answering.cost import CostInBody, CostInStream
from app.gateway.answering.departure import Departure
from app.gateway.answering.keepalive import KeepAlive
from app.gateway.forwarding.forward import answer_headers
from app.gateway.forwarding.transport import UpstreamAnswer, UpstreamBroken
from app.gateway.masking import without_secret
from app.gateway.metering.meter import BodyMeter, StreamMeter
from app.gateway.metering.usage_reports import UsageReports, most_believable
from app.gateway.receiving.client import Client

log = structlog.get_logger(__name__)

REST_WAIT = 5.0
"""Seconds in which an upstream has to end its answer after the terminal event."""


class Relay:
    """`keepalive`: seconds between comments to a client of a silent stream; 0: none. `charged`: what the call was charged, to be
    asked once it has been concluded; None: its client doesn't ask."""

    __slots__ = ("_answer", "_call", "_charged", "_client", "_conclusion", "_departure", "_keepalive", "_protocol", "_reports", "_secret")

    def __init__(
        self,
        call: AdmittedCall,
        answer: UpstreamAnswer,
        client: Client,
        *,
        departure: Departure,
        conclusion: Conclusion,
        keepalive: float = 0.0,
        charged: Callable[[], Awaitable[Decimal | None]] | None = None,
    ) -> None:
        self._call = call
        self._protocol = call.protocol
        self._secret = call.secret
        self._answer = answer
        self._client = client
        self._departure = departure
        self._conclusion = conclusion
        self._keepalive = keepalive
        self._charged = charged
        self._reports = UsageReports(most_believable(call.request, call.limits))

    async def stream(self) -> None:
        cost = CostInStream(self._protocol) if self._charged else None
        meter = StreamMeter(
            self._call.request.reader or self._protocol, strips=self._call.asks_usage and cost is None, reports=self._reports
        )
        await self._start()
        try:
            with KeepAlive(self._client, self._answer, meter, every=self._keepalive):
                broken = await self._pass_events(meter, cost)
            meter.finish()
            await self._conclusion.of_stream(meter, broken)
        except BaseException:  # the process stops, or a fault of our own: what was delivered is billed
            self._conclusion.interrupted(meter)
            raise
        if self._departure.cancelled:
            return
        if broken:
            if cost and self._charged:
                await self._send(cost.finish(b"", await self._charged()))
            goes_on = self._call.request.is_background
            told = "It goes on in the background: ask for it by its id" if goes_on else "What came so far has been billed"
            error = UpstreamFailed(f"The answer is incomplete: {broken}. {told}.", code="upstream_broken")
            await self._client.send(self._protocol.error_event(error), more=False)
            return
        rest = meter.release()
        await self._send(cost.finish(rest, await self._charged()) if cost and self._charged else rest)
        await self._pass_rest()

    async def body(self) -> None:
        is_array = self._call.request.is_stream and self._answer.encoding is None
        meter = BodyMeter(length=self._answer.length, encoding=self._answer.encoding, is_array=is_array)
        cost = CostInBody() if self._charged and self._answer.status < 400 and not self._call.request.is_stream else None
        broken: str | None = None
        chunks = self._answer.chunks() if self._answer.status < 400 else self._answer.error_chunks(self._secret)
        try:
            async for chunk in chunks:
                passing = meter.feed(chunk)
                if cost:
                    passing = cost.feed(passing)
                if passing:
                    await self._start()
                    await self._send(passing)
        except UpstreamBroken as cut:
            broken = str(cut)
        await self._conclusion.of_body(meter, self._reports, broken)
        if broken:
            await self._break_off(broken)
            return
        rest = meter.release()
        if cost and self._charged:
            rest = cost.finish(rest, await self._charged())
        await self._start(length=len(rest))
        await self._client.send(without_secret(rest, self._secret), more=False)

    async def _pass_events(self, meter: StreamMeter, cost: CostInStream | None) -> str | None:
        """Until the terminal event, or the end of the answer; returns why it broke off, if it did."""
        try:
            async for chunk in self._answer.chunks():
                passing = meter.feed(chunk)
                if cost:
                    passing = cost.feed(passing)
                if passing:
                    self._call.record.saw_first_token()
                    await self._send(passing)
                if meter.texts_are_many:
                    await self._conclusion.count(meter)
                if meter.terminal or self._departure.cancelled:
                    break
        except UpstreamBroken as cut:
            return str(cut)
        return None

    async def _send(self, passing: bytes) -> None:
        await self._client.send(without_secret(passing, self._secret))

    async def _start(self, *, length: int | None = None) -> None:
        """`length`: of the whole body, where that is known only now; what the upstream says of it is corrected."""
        if not self._client.started:
            headers = answer_headers(self._answer, self._secret)
            if length is not None and self._answer.length not in (None, length):
                headers = [(name, value) if name != b"content-length" else (name, str(length).encode()) for name, value in headers]
            if self._call.output_limit_applied is not None:
                headers.append((b"x-max-tokens-applied", str(self._call.output_limit_applied).encode()))
            headers += [(name.encode(), value.encode()) for name, value in self._call.rate_headers.items()]
            await self._client.start(self._answer.status, headers)

    async def _pass_rest(self) -> None:
        """What comes after the terminal event is passed on to the end of the body, which frees the connection."""
        try:
            async with asyncio.timeout(REST_WAIT):
                async for chunk in self._answer.chunks():
                    await self._send(chunk)
        except (UpstreamBroken, TimeoutError):
            log.info("what followed the terminal event did not end in time", request_id=str(self._call.record.request_id))
        await self._client.send(b"", more=False)

    async def _break_off(self, broken: str) -> None:
        """An answer of which nothing has left can still say what went wrong. A part of one is left unfinished, at which
        the server cuts the connection, so that the client notices."""
        if not self._client.started:
            error = UpstreamFailed(f"The upstream's answer is incomplete: {broken}. Try again.", code="upstream_broken")
            await self._client.send_error(self._protocol, error)
