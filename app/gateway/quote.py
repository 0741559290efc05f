"""What a call would hold and cost, by the code that admits and prices calls. Nothing is held, sent or written.

Limits of rate and spend are not looked at, nor what a request refers to by id: such a call may be refused all the same.
"""

from dataclasses import dataclass
from decimal import Decimal

from app.billing.price import Charge
from app.billing.usage import Usage
from app.catalog.callers import Caller
from app.errors import NotFound
from app.gateway.admission.admit import AdmittedCall
from app.gateway.call import Gateway
from app.gateway.call_record import CallRecord
from app.gateway.protocols import PROTOCOLS
from app.gateway.protocols.paths import Paths

_paths = Paths(PROTOCOLS)


@dataclass(frozen=True, slots=True)
class Quote:
    """`fits`: `available` covers what would be held. `cost`: of the usage that was asked about."""

    call: AdmittedCall
    available: Decimal
    fits: bool
    cost: Charge | None


async def quote(gateway: Gateway, caller: Caller, *, path: str, body: bytes, usage: Usage | None, available: Decimal) -> Quote:
    """`path`: where the call would go, `body`: what would be sent there. Raises `NotFound` for a path that no call is made at, and
    what refuses a call: 400, 403, 404."""
    exact = _paths.exact(path)
    found = (exact, None) if exact else _paths.find(path, b"")
    if found is None:
        raise NotFound(f"path: no model is called at {path!r}; use one such as /v1/chat/completions", code="unknown_url")
    protocol, asked = found
    request = protocol.read(body, asked) if asked else protocol.read(body)
    record = CallRecord(api=protocol.api)
    record.caller = caller
    record.asks_for(request)
    call = gateway.admitter.plan(protocol, request, caller, record)
    fits = await gateway.admitter.fit(call, available)
    return Quote(call, available, fits, None if usage is None else _cost(call, usage))


def _cost(call: AdmittedCall, usage: Usage) -> Charge:
    return call.price.charge(
        usage.meters(),
        input_tokens=usage.input_tokens,
        units=usage.units,
        service_tier=call.supposed_tier,
        multiplier=call.record.multiplier,
    )
