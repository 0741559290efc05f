"""Responses that go on in the background: who asks for them until they are final, and settles their calls.

Every process looks at what is due, whoever made it: an answer that is final, read here or passed to the client that asked
for it, ends the call with the usage that it reports, at the price that was promised. What can't be reached is asked again
for `BACKGROUND_WAIT`; what the upstream no longer has is settled by what was delivered.
"""

import asyncio
from datetime import UTC, datetime

import structlog

from app.billing.usage import Usage
from app.catalog.addresses import auth_headers, join_url
from app.catalog.routing import Catalog
from app.database import is_away
from app.errors import ProxyError
from app.gateway.answering.settle import Settling
from app.gateway.call_record import CallRecord
from app.gateway.forwarding.transport import Transport, UpstreamBroken
from app.gateway.masking import without_secret
from app.gateway.metering.estimate import Tokenizer
from app.gateway.metering.strict_json import strict_json
from app.gateway.metering.usage_reports import UsageReports, is_reported
from app.gateway.protocols.kept import Kept, kept_in
from app.gateway.protocols.responses import Responses
from app.ledger.background import BackgroundCalls, PendingCall
from app.ledger.jitter import jittered
from app.ledger.settlement import Settlement

log = structlog.get_logger(__name__)

POLL = 1.0
"""Seconds between two looks at what is due."""
MOST_TAKEN, AT_ONCE = 50, 8
"""Calls that are looked at between two pauses, and how many of them at a time: an answer may be as large as any."""
LOOK_WAIT = 30.0
"""Seconds in which an upstream has to answer a look; the others wait for the slowest."""
CERTAIN = 3
"""Looks after which an upstream is believed that it has no such response: a new one may not be everywhere at once."""

_protocol = Responses()


class Background:
    """`patience`: seconds after which a call is given up."""

    def __init__(
        self,
        calls: BackgroundCalls,
        *,
        catalog: Catalog,
        transport: Transport,
        settlement: Settlement,
        tokenizer: Tokenizer,
        settle_wait: float,
        patience: float,
    ) -> None:
        self._calls = calls
        self._catalog = catalog
        self._transport = transport
        self._settlement = settlement
        self._tokenizer = tokenizer
        self._settle_wait = settle_wait
        self._patience = patience

    async def run(self) -> None:
        """Until cancelled."""
        is_failing = False
        while True:
            await asyncio.sleep(jittered(POLL, least=0.8))
            try:
                due = await self._calls.take_due(most=MOST_TAKEN)
                slots = asyncio.Semaphore(AT_ONCE)
                ends = await asyncio.gather(*(self._look_in_turn(call, slots) for call in due), return_exceptions=True)
                if failed := next((end for end in ends if end is not None), None):
                    raise failed
                is_failing = False
            except Exception as error:
                if not (isinstance(error, ProxyError) or is_away(error)):
                    log.exception("background responses were not looked at, and are tried again")
                elif not is_failing:
                    log.warning("background responses wait for the database", error=type(error).__name__)
                is_failing = True

    async def _look_in_turn(self, call: PendingCall, slots: asyncio.Semaphore) -> None:
        """What goes wrong with one call is in no other's way: it is looked at again when it is due again."""
        try:
            async with slots:
                await self.look(call)
        except Exception as error:
            if isinstance(error, ProxyError) or is_away(error):
                raise
            log.exception("a background response was not looked at", request_id=str(call.request_id))

    async def look(self, call: PendingCall) -> bool:
        """Asks the upstream for the response; returns whether the call has ended."""
        target = self._catalog.snapshot.targets.get(call.upstream_id)
        status, answer = 0, b""
        if target is not None:
            url = join_url(target.base_url, f"/v1/responses/{call.object_id}")
            headers = {"accept-encoding": "identity", **auth_headers(target.auth, _protocol.auth, target.secret or "")}
            try:
                async with asyncio.timeout(LOOK_WAIT):
                    status, answer = await self._transport.fetch(url, headers=headers)
            except (ProxyError, UpstreamBroken, TimeoutError) as failed:
                reason = str(failed) or "it took too long"
                log.info("a background response can't be asked for", request_id=str(call.request_id), reason=reason)
            answer = without_secret(answer, target.secret)
        if status == 200 and await self.conclude(call, answer):
            return True
        age = (datetime.now(UTC) - call.created_at).total_seconds()
        if (status in (404, 410) and call.looks > CERTAIN) or age > self._patience:
            await self._give_up(call, status)
            return True
        return False

    async def conclude(self, call: PendingCall, answer: bytes) -> bool:
        """Settles the call by the response, if that is final."""
        kept = kept_in(answer)
        if kept is None or kept.id != call.object_id or not kept.is_final:
            return False
        reports = UsageReports(call.terms["most"])
        usage = _protocol.usage_of(answer)
        if usage is None and is_reported(answer):
            usage = _protocol.usage_of(await asyncio.to_thread(strict_json, answer))
        reports.take(usage, answer)
        usage, source = reports.usage, "provider"
        if usage is None:
            usage, source = await self._estimate(call, kept, answer)
        record = self._record(call)
        record.keeps(kept)
        for flag in reports.flags():
            record.flag(flag)
        await self._settle(
            record,
            status="failed" if kept.status == "failed" else "success",
            end_reason={"failed": "upstream_error", "cancelled": "cancelled"}.get(kept.status, "completed"),
            usage=usage,
            source=source,
            error=kept.error,
            call=call,
        )
        return True

    async def _estimate(self, call: PendingCall, kept: Kept, answer: bytes) -> tuple[Usage, str]:
        """A response that was cancelled has used its input, as a call whose client leaves has."""
        texts = await asyncio.to_thread(_protocol.answer_texts, answer)
        output = max(await self._tokenizer.count(call.entry["model_name"], texts), call.terms["output_tokens"])
        if not output and kept.status != "cancelled":
            return Usage(), "none"
        return _counted(call, output), "estimated"

    async def _give_up(self, call: PendingCall, status: int) -> None:
        delivered = call.terms["output_tokens"]
        usage = _counted(call, delivered) if delivered else Usage()
        why = f"the upstream answered with status {status}" if status else "the upstream could not be reached"
        log.warning("a background response is given up", request_id=str(call.request_id), reason=why)
        await self._settle(
            self._record(call),
            status="failed",
            end_reason="background_lost",
            usage=usage,
            source="estimated" if delivered else "none",
            error=f"What became of the response could not be learned: {why}.",
            call=call,
        )

    def _record(self, call: PendingCall) -> CallRecord:
        record = CallRecord.resumed(call.entry, call.terms)
        record.price_of = self._catalog.snapshot.price
        if self._catalog.snapshot.upstream_prices:
            record.upstream_price_of = self._catalog.snapshot.upstream_price
        return record

    async def _settle(
        self, record: CallRecord, *, status: str, end_reason: str, usage: Usage, source: str, error: str | None, call: PendingCall
    ) -> None:
        settling = Settling(self._settlement, longest_wait=self._settle_wait)
        outcome = record.outcome(
            status=status,
            end_reason=end_reason,
            http_status=200,
            usage=usage,
            usage_source=source,
            error=error,
            attempts=call.entry.get("attempts"),
        )
        settling.submit(outcome)
        await settling.secured()


def _counted(call: PendingCall, output_tokens: int) -> Usage:
    """What was counted of it here."""
    return Usage(input_tokens=call.terms["input_tokens"], output_tokens=output_tokens, service_tier=call.terms["service_tier"])
