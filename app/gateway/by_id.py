"""Requests for what an upstream keeps, by its id: only its own user gets it, from the upstream that holds it.

    authenticate   whose key is it?
    find           is it theirs, and where does it lie?
    forward        as the client asked
    pass           the answer, as it comes

They bill nothing: the call that made it has, or will. While that call goes on in the background, an answer that shows its
end settles it before the last byte leaves, and nothing that isn't settled yet is deleted.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

import structlog
from starlette.types import Receive, Scope, Send
from uuid_utils.compat import uuid7

from app import logs
from app.catalog.addresses import join_url
from app.catalog.callers import Caller
from app.catalog.routing import Route, Target
from app.errors import Conflict, InvalidRequest, NotFound, ProxyError, UnexpectedFault, UpstreamFailed
from app.gateway.admission.authenticate import authenticate, check_caller, presented_key
from app.gateway.admission.ownership import place_of
from app.gateway.call import Gateway
from app.gateway.forwarding.forward import answer_headers, refuse_unusable, request_headers
from app.gateway.forwarding.transport import UpstreamAnswer, UpstreamBroken
from app.gateway.masking import without_secret
from app.gateway.metering.meter import BodyMeter
from app.gateway.protocols.base import decode
from app.gateway.protocols.kept import items_made, kept_in
from app.gateway.protocols.paths import plain
from app.gateway.protocols.references import of_responses
from app.gateway.protocols.responses import Responses
from app.gateway.receiving.client import Client, ClientGone
from app.ledger.objects import KeptObject

log = structlog.get_logger(__name__)

MODEL_HEADER = b"x-model"
"""Where several upstreams could keep a new conversation: a model, whose upstream shall."""
_ID = r"[^/]+"
_KEPT = (
    (re.compile(rf"/v1/responses/({_ID})"), ("GET", "DELETE")),
    (re.compile(rf"/v1/responses/({_ID})/cancel"), ("POST",)),
    (re.compile(rf"/v1/responses/({_ID})/input_items"), ("GET",)),
    (re.compile(rf"/v1/conversations/({_ID})"), ("GET", "POST", "DELETE")),
    (re.compile(rf"/v1/conversations/({_ID})/items"), ("GET", "POST")),
    (re.compile(rf"/v1/conversations/({_ID})/items/{_ID}"), ("GET", "DELETE")),
)
_CONVERSATIONS = "/v1/conversations"
_protocol = Responses()


@dataclass(frozen=True, slots=True)
class AskedById:
    """`path`: as the provider documents it. `object_id` None: it is made by this request. `deletes`: all of it."""

    method: str
    path: str
    object_id: str | None

    @property
    def deletes(self) -> bool:
        return self.method == "DELETE" and self.path.endswith(f"/{self.object_id}")

    @property
    def adds_items(self) -> bool:
        return self.method == "POST" and self.path.endswith("/items")


def asked_by_id(method: str, path: str) -> AskedById | None:
    path = plain(path)
    if (method, path) == ("POST", _CONVERSATIONS):
        return AskedById(method, path, None)
    for pattern, methods in _KEPT:
        if method in methods and (found := pattern.fullmatch(path)) and ".." not in path:
            return AskedById(method, path, found[1])
    return None


async def handle_by_id(gateway: Gateway, asked: AskedById, scope: Scope, receive: Receive, send: Send) -> None:
    client = Client(scope, receive, send, request_id=uuid7(), protocol=_protocol)
    logs.serves(client.request_id)
    try:
        caller = await authenticate(gateway.callers, presented_key(scope), address=client.address)
        check_caller(caller, client.address)
        await _serve(gateway, asked, caller, client)
    except ClientGone:
        return
    except ProxyError as refusal:
        if not client.started:
            await client.send_error(_protocol, refusal)
    except Exception:
        log.exception("what an upstream keeps could not be asked for", path=asked.path)
        if not client.started:
            await client.send_error(_protocol, UnexpectedFault())


async def _serve(gateway: Gateway, asked: AskedById, caller: Caller, client: Client) -> None:
    body = await client.read_body(largest=gateway.settings.max_body_bytes)
    kept = await _find(gateway, caller, asked) if asked.object_id is not None else None
    place = await _place_of_items(gateway, caller, body)
    if kept and place not in (None, kept.upstream_id):
        raise InvalidRequest("An item lies at another upstream than its conversation. Send its content.", code="references_apart")
    target = _target(gateway, kept) if kept else _place_of_new(gateway, caller, client, place)
    headers = request_headers(client.headers, target, _protocol.auth, target.secret)
    query = urlencode([(name, value) for name, value in parse_qsl(client.scope["query_string"].decode("latin-1")) if name != "key"])
    url = join_url(target.base_url, quote(asked.path)) + (f"?{query}" if query else "")
    answer = await gateway.transport.send(asked.method, url, headers=headers, body=body or None)
    try:
        refuse_unusable(answer)
        client.bound_sends(gateway.settings.client_idle_timeout)
        passage = _Passage(gateway, asked, caller, client, kept, target, answer)
        await (passage.events() if answer.is_stream else passage.body())
    finally:
        client.end()
        answer.close()


async def _find(gateway: Gateway, caller: Caller, asked: AskedById) -> KeptObject:
    """Raises `NotFound` for what isn't theirs, `Conflict` where it is to be deleted before its call has ended."""
    assert asked.object_id is not None
    kept = await gateway.objects.find(caller.user_id, asked.object_id)
    if kept is None:
        raise NotFound(f"There is no {asked.object_id!r} of yours here.", code="not_found")
    if asked.deletes and not all([await gateway.background.look(call) for call in kept.pending]):
        raise Conflict("This response is still being made. Cancel it or wait for its end, then delete it.", code="response_under_way")
    return kept


async def _place_of_items(gateway: Gateway, caller: Caller, body: bytes) -> int | None:
    """Items that are put into a conversation may refer to others, which must be their own, too. Raises `InvalidRequest`."""
    if not body.strip():
        return None
    return await place_of(gateway.objects, caller, of_responses(body, decode(body, dict[str, Any])))


def _target(gateway: Gateway, kept: KeptObject) -> Target:
    target = gateway.admitter.catalog.snapshot.targets.get(kept.upstream_id)
    if target is None:
        raise UpstreamFailed("The upstream that holds this can't be reached any more. Ask your operator.", code="upstream_gone")
    return target


def _place_of_new(gateway: Gateway, caller: Caller, client: Client, place: int | None) -> Target:
    """Only one upstream can be meant, or the client names a model. `place`: where the items that it shall have lie."""
    snapshot = gateway.admitter.catalog.snapshot
    model = dict(client.headers).get(MODEL_HEADER, b"").decode("latin-1")
    names = (model,) if model else snapshot.model_names
    found = [_open_to(caller, snapshot.routes(name)) for name in names if caller.may_use(name)]
    if place is None:
        usable = [route for routes in found for route in routes[:1]]
    else:
        usable = [route for routes in found for route in routes if route.target.id == place]
        if not usable:
            raise InvalidRequest("The model is not served where the items lie. Name the model that made them.", code="reference_elsewhere")
    targets = {route.target.id: route.target for route in usable}
    if len(targets) != 1:
        raise InvalidRequest(
            "Several upstreams could keep this. Name a model that you will use with it, in the header `X-Model`.", code="missing_model"
        )
    return next(iter(targets.values()))


def _open_to(caller: Caller, routes: Sequence[Route]) -> list[Route]:
    return [route for route in routes if caller.group is None or caller.group.may_go_to(route.target.tags)]


@dataclass(slots=True)
class _Passage:
    """An answer on its way. `kept`: what was asked for; None where it is made by this request."""

    gateway: Gateway
    asked: AskedById
    caller: Caller
    client: Client
    kept: KeptObject | None
    target: Target
    answer: UpstreamAnswer

    async def events(self) -> None:
        watch = self.gateway.tasks.spawn(self.client.when_gone(self.answer.close), name="client watch")
        await self._start()
        try:
            async for chunk in self.answer.chunks():
                await self.client.send(without_secret(chunk, self.target.secret))
        except UpstreamBroken as cut:
            error = UpstreamFailed(f"The answer is incomplete: {cut}. Ask for the rest with `starting_after`.", code="upstream_broken")
            await self.client.send(_protocol.error_event(error), more=False)
        else:
            for call in self.kept.pending if self.kept else ():
                await self.gateway.background.look(call)
            await self.client.send(b"", more=False)
        finally:
            watch.cancel()

    async def body(self) -> None:
        meter = BodyMeter(length=self.answer.length, encoding=self.answer.encoding)
        chunks = self.answer.chunks() if self.answer.status < 400 else self.answer.error_chunks(self.target.secret)
        try:
            async for chunk in chunks:
                if passing := meter.feed(chunk):
                    await self._start()
                    await self.client.send(without_secret(passing, self.target.secret))
        except UpstreamBroken as cut:
            if self.client.started:
                return  # unfinished, at which the server cuts the connection
            raise UpstreamFailed(f"The upstream's answer is incomplete: {cut}. Try again.", code="upstream_broken") from None
        if self.answer.status < 300:
            await self._learn(without_secret(meter.answer(), self.target.secret))
        await self._start()
        await self.client.send(without_secret(meter.release(), self.target.secret), more=False)

    async def _start(self) -> None:
        if not self.client.started:
            await self.client.start(self.answer.status, answer_headers(self.answer, self.target.secret))

    async def _learn(self, answer: bytes) -> None:
        """What the answer means for the books, before its last byte leaves."""
        objects, user_id = self.gateway.objects, self.caller.user_id
        if self.kept is None:
            if (made := kept_in(answer)) is not None:
                await objects.remember(user_id, made.ids, upstream_id=self.target.id, request_id=self.client.request_id)
        elif self.asked.deletes:
            await objects.forget(user_id, self.kept.object_id)
        elif self.asked.adds_items:
            await objects.remember(user_id, items_made(answer), upstream_id=self.target.id, request_id=self.client.request_id)
        else:
            for call in self.kept.pending:
                await self.gateway.background.conclude(call, answer)
