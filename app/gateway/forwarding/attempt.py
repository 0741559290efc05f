"""What the row tells of an attempt: where it went, how long it took, how it ended; and of one that failed, what the upstream
may charge for it all the same, where that can be known. It is the operator's to pay, and never in the user's bill.

the error reports usage                      these counts, `provider`
a success broke off before its first byte    the input, counted roughly, `estimated`: the upstream had taken the call
anything else                                nothing is known, and nothing is told

`cost` is by the model's price, without a group's multiplier; there is none where the model has no price.
"""

import asyncio
import time
from contextlib import suppress

from app.billing.usage import Usage
from app.gateway.admission.admit import AdmittedCall
from app.gateway.forwarding.transport import LARGEST_ERROR, UpstreamAnswer, UpstreamBroken
from app.gateway.metering.estimate import rough_count
from app.gateway.metering.usage_reports import UsageReports, most_believable

Entry = dict[str, object]

READ_WAIT = 0.5
"""Seconds that the body of an error may take before the call goes on elsewhere."""


def attempted(call: AdmittedCall, started: float, *, status: int | None = None, error: str | None = None) -> Entry:
    attempt: Entry = {"upstream_id": call.route.target.id, "ms": round((time.monotonic() - started) * 1000)}
    if status is not None:
        attempt["status"] = status
    if error is not None:
        attempt["error"] = error
    return attempt


async def cost_of_error(call: AdmittedCall, answer: UpstreamAnswer) -> Entry:
    """Reads the error that another attempt takes the place of, as far as it comes at once."""
    body = bytearray()
    with suppress(UpstreamBroken, TimeoutError):  # what has come is all there is to know
        async with asyncio.timeout(READ_WAIT):
            async for chunk in answer.chunks():
                body += chunk
                if len(body) > LARGEST_ERROR:
                    break
    return reported_cost(call, bytes(body))


def reported_cost(call: AdmittedCall, error: bytes) -> Entry:
    reports = UsageReports(most_believable(call.request, call.limits))
    reports.take(call.protocol.usage_of(error), error)
    return _entry(call, reports.usage, "provider") if reports.usage else {}


async def cost_of_input(call: AdmittedCall) -> Entry:
    """Media are paid for what is delivered, and none was."""
    if call.request.measured.units:
        return {}
    texts = await asyncio.to_thread(call.protocol.request_texts, call.request.body)
    tokens = rough_count(["".join(texts)]) + call.request.media_tokens
    return _entry(call, Usage(input_tokens=tokens, service_tier=call.supposed_tier), "estimated")


def _entry(call: AdmittedCall, usage: Usage, source: str) -> Entry:
    told: Entry = {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens, "usage_source": source}
    if call.price.id is not None:
        charge = call.price.charge(usage.meters(), input_tokens=usage.input_tokens, units=usage.units, service_tier=usage.service_tier)
        told["cost"] = f"{charge.amount:f}"
    return told
