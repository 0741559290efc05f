"""A call's way through the data plane, in order.

    authenticate   whose key is it?                                    admission/authenticate.py
                   is what the request refers to by id theirs?         admission/ownership.py
    admit          route, price, ceiling; the ceiling is held          admission/admit.py
    forward        to the upstream, as the client wrote it             admission/order.py, forwarding/failover.py, forward.py
    meter          the answer passes a tap                             answering/relay.py, metering/meter.py
    settle         what it cost; the row is in before the last byte    answering/conclude.py, settle.py

Until a call is held, whatever is wrong with it is a refusal. From then on it ends in exactly one outcome, also when the
client leaves (answering/departure.py), the upstream breaks, or this very code raises.
"""

import time
from dataclasses import dataclass, field
from functools import partial

import structlog
from starlette.types import Receive, Scope, Send

from app import logs
from app.catalog.callers import Callers
from app.database import Database
from app.errors import ProxyError, Unavailable, UnexpectedFault
from app.gateway.admission.admit import UNPRICED, AdmittedCall, Admitter
from app.gateway.admission.authenticate import authenticate, check_caller, presented_key
from app.gateway.admission.ownership import place_of
from app.gateway.answering.background import Background
from app.gateway.answering.charged import charged
from app.gateway.answering.conclude import Conclusion
from app.gateway.answering.cost import wants_cost
from app.gateway.answering.departure import Departure, Drains
from app.gateway.answering.relay import Relay
from app.gateway.answering.settle import Settling, record_refusal
from app.gateway.call_record import CallRecord
from app.gateway.forms.upload import Upload, UploadSpace
from app.gateway.forwarding.failover import Failover
from app.gateway.forwarding.transport import Transport
from app.gateway.metering.estimate import Tokenizer
from app.gateway.protocols import NO_REFERENCES, NOTHING_MORE, Asked, CallRequest, Protocol, TakesForms, model_named_in
from app.gateway.receiving.client import Client, ClientGone
from app.gateway.receiving.receive import is_form, receive_form
from app.gateway.receiving.tags import made_for
from app.ledger.objects import UpstreamObjects
from app.ledger.settlement import Settlement
from app.metrics import Metrics
from app.notify.notices import Notices
from app.reports.outbox import Notice
from app.runtime.tasks import OwnedTasks
from app.settings import Settings

log = structlog.get_logger(__name__)

INTERRUPTED = "The proxy could not carry this call to its end."


@dataclass(slots=True)
class Gateway:
    """What calls share. `accepting` turns false when the process is about to stop."""

    settings: Settings
    database: Database
    callers: Callers
    admitter: Admitter
    transport: Transport
    settlement: Settlement
    objects: UpstreamObjects
    background: Background
    tokenizer: Tokenizer
    uploads: UploadSpace
    tasks: OwnedTasks
    metrics: Metrics
    notices: Notices
    accepting: bool = True
    drains: Drains = field(init=False)
    failover: Failover = field(init=False)

    def __post_init__(self) -> None:
        self.drains = Drains(wait=self.settings.drain_wait, most=self.settings.drain_most)
        self.failover = Failover(self.settings, self.transport)


async def handle_call(
    gateway: Gateway, protocol: Protocol, scope: Scope, receive: Receive, send: Send, *, asked: Asked = NOTHING_MORE
) -> None:
    record = CallRecord(api=protocol.api)
    client = Client(scope, receive, send, protocol=protocol, request_id=record.request_id)
    logs.serves(record.request_id)
    try:
        call = await _admit(gateway, protocol, asked, record, client)
    except ClientGone:
        return
    except ProxyError as refusal:
        gateway.metrics.refusals.add((refusal.code, str(refusal.status)))
        if refusal.code == UNPRICED:
            gateway.notices.add(
                Notice("unpriced_model", record.model, f"A call for the model {record.model!r} was refused: it has no price.")
            )
        await record_refusal(gateway.settlement, record, refusal, longest_wait=gateway.settings.settle_wait)
        await client.send_error(protocol, refusal)
    except Exception:
        log.exception("a call could not be admitted", request_id=str(record.request_id))
        await client.send_error(protocol, UnexpectedFault())
    else:
        await _carry_through(gateway, call, client)
    finally:
        if client.upload is not None:
            client.upload.close()


async def _admit(gateway: Gateway, protocol: Protocol, asked: Asked, record: CallRecord, client: Client) -> AdmittedCall:
    if not gateway.accepting:
        raise Unavailable("This server is about to stop. Try again: another one will answer.", code="stopping")
    key = presented_key(client.scope)
    caller = await authenticate(gateway.callers, key, address=client.address)
    record.called_by(caller, address=client.address, key=key)
    check_caller(caller, client.address)
    if isinstance(protocol, TakesForms) and is_form(client):
        request = await _read_form(gateway, protocol, asked, record, client)
    else:
        body = await client.read_body(largest=gateway.settings.max_body_bytes)
        try:
            request = protocol.read(body, asked)
        except ProxyError:
            record.names(asked.model or model_named_in(body))
            raise
    record.asks_for(request)
    record.made_for(*made_for(client.headers, request, key=key))
    place = None if request.references is NO_REFERENCES else await place_of(gateway.objects, caller, request.references)
    return await gateway.admitter.admit(protocol, request, caller, record, place=place)


async def _read_form(gateway: Gateway, protocol: TakesForms, asked: Asked, record: CallRecord, client: Client) -> CallRequest:
    client.upload = Upload(gateway.uploads)
    settings = gateway.settings
    form = await receive_form(client, client.upload, largest=settings.max_upload_bytes, longest_wait=settings.client_idle_timeout)
    record.names(asked.model or form.fields().get("model"))
    if protocol.sound is not None:
        await form.listen(protocol.sound)
    return protocol.read_form(form, asked)


async def _carry_through(gateway: Gateway, call: AdmittedCall, client: Client) -> None:
    """Whatever happens in here, the call's hold comes to its end."""
    settling = Settling(gateway.settlement, longest_wait=gateway.settings.settle_wait)
    departure = Departure(client, gateway.drains, may_drain=lambda: call.route.target.client_gone == "drain")
    interrupted = partial(call.record.failure, reason="interrupted", http_status=500, error=INTERRUPTED, attempts=call.attempts)
    client.bound_sends(gateway.settings.client_idle_timeout)
    try:
        await _carry(gateway, call, client, departure, settling)
    except Exception:
        log.exception("a call could not be carried to its end", request_id=str(call.record.request_id))
        if not settling.is_submitted:
            settling.submit(interrupted())
        if not client.started:
            await settling.secured()
            await client.send_error(call.protocol, UnexpectedFault())
    finally:
        departure.end()
        client.end()
        if not settling.is_submitted:
            settling.submit(interrupted())


async def _carry(gateway: Gateway, call: AdmittedCall, client: Client, departure: Departure, settling: Settling) -> None:
    """From the hold to the last byte."""
    call.record.forwarded_at = time.monotonic()
    if call.request.is_stream:
        departure.watch(gateway.tasks)
    try:
        answer = await departure.forwarding(gateway.failover.forward(call, client.headers, has_left=departure.is_known))
    except ClientGone:
        settling.submit(call.record.given_up(attempts=call.attempts))
        await settling.secured()
        return
    except ProxyError as failed:
        settling.submit(call.record.failure(reason=failed.code, http_status=failed.status, error=str(failed), attempts=call.attempts))
        await settling.secured()
        await client.send_error(call.protocol, failed)
        return
    conclusion = Conclusion(call, answer, departure, settling, gateway.tokenizer)
    relay = Relay(
        call,
        answer,
        client,
        departure=departure,
        conclusion=conclusion,
        keepalive=gateway.settings.keepalive,
        charged=partial(charged, gateway.database, call.record, longest_wait=gateway.settings.settle_wait)
        if wants_cost(client.named)
        else None,
    )
    try:
        if answer.is_stream:
            await relay.stream()
        else:
            await relay.body()
    finally:
        if answer.is_broken and not departure.cancelled:
            gateway.failover.broke_off(call)
        answer.close()
