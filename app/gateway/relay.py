"""Step 4: an answer passes the meter on its way to the client, and its end waits until the call is settled.

the answer ends             usage as reported, else counted
the client leaves           a stream is cancelled upstream or read on, as `departure` has it; any other answer is read on
the upstream breaks off     of a stream, what was delivered is counted, and the client gets an error event; any other
                            answer is of no use to the client and billed only if it holds its usage, and is cut off
the process stops           of a stream, what was delivered is counted roughly, as time is short; any other answer is free
"""

import asyncio

import structlog

from app.errors import UpstreamFailed
from app.gateway.admit import AdmittedCall
from app.gateway.client import Client
from app.gateway.conclude import Conclusion
from app.gateway.departure import Departure
from app.gateway.forward import answer_headers
from app.gateway.meter import BodyMeter, StreamMeter
from app.gateway.transport import UpstreamAnswer, UpstreamBroken, without_secret
from app.gateway.usage_reports import UsageReports, most_believable

log = structlog.get_logger(__name__)

REST_WAIT = 5.0
"""Seconds in which an upstream has to end its answer after the terminal event."""


class Relay:
    def __init__(
        self,
        call: AdmittedCall,
        answer: UpstreamAnswer,
        client: Client,
        *,
        departure: Departure,
        conclusion: Conclusion,
    ) -> None:
        self._call = call
        self._protocol = call.protocol
        self._secret = call.route.target.secret
        self._answer = answer
        self._client = client
        self._departure = departure
        self._conclusion = conclusion
        self._reports = UsageReports(most_believable(call.request, call.limits))

    async def stream(self) -> None:
        meter = StreamMeter(self._protocol, strips=self._call.asks_usage, reports=self._reports)
        await self._start()
        try:
            broken = await self._pass_events(meter)
            meter.finish()
            await self._conclusion.of_stream(meter, broken)
        except BaseException:  # the process stops, or a fault of our own: what was delivered is billed
            self._conclusion.interrupted(meter)
            raise
        if self._departure.cancelled:
            return
        if broken:
            goes_on = self._call.request.is_background
            rest = "It goes on in the background: ask for it by its id" if goes_on else "What came so far has been billed"
            error = UpstreamFailed(f"The answer is incomplete: {broken}. {rest}.", code="upstream_broken")
            await self._client.send(self._protocol.error_event(error), more=False)
            return
        await self._send(meter.release())
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
        await self._conclusion.of_body(meter, self._reports, broken)
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

    async def _start(self) -> None:
        if not self._client.started:
            headers = answer_headers(self._answer)
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
