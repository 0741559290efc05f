"""Step 2, admit: may this call go upstream, and what may it cost at most?

model -> route -> price -> ceiling -> hold. The ceiling is held in the database before anything is sent, so that a
prepaid account can't go below zero. Where the client sets no output limit and the ceiling doesn't fit the credit, the
largest limit that does is sent upstream; else the refusal says what would fit.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from math import ceil

from app.billing.numbers import plain
from app.billing.price import LARGEST_CHARGE, Bound, Price
from app.billing.service_tier import tier_supposed
from app.catalog.callers import Caller
from app.catalog.routing import Catalog, ModelLimits, Route
from app.errors import Forbidden, InsufficientCredit, InvalidRequest, LimitExceeded, NotFound, ProxyError, Unauthenticated, Unavailable
from app.gateway.admission.order import in_order
from app.gateway.admission.rate_headers import rate_headers, retry_headers
from app.gateway.admission.refused_until import RefusedUntil
from app.gateway.admission.spoken import spoken
from app.gateway.call_record import CallRecord
from app.gateway.metering.estimate import Tokenizer
from app.gateway.protocols import CallRequest, Protocol
from app.ledger.hold import Decision, Hold, Holds
from app.ledger.spool import Spool
from app.settings import Settings

SMALLEST_APPLIED_LIMIT = 256
"""Output tokens below which a limit isn't applied on the client's behalf: the answer would be of no use."""
TOKENIZER_MARGIN = Decimal("1.2")
"""By how much a counted input may fall short of the provider's count: other vocabularies, chat templates, tools."""
UNPRICED = "model_not_priced"
NO_LIMITS = ModelLimits()
NO_BOUND = Bound(0, 0)
LARGEST_COUNTED = 1_000_000
"""Bytes of a request that may be counted before it is refused: counting takes 0.2 s a megabyte."""
_SPENT = "This call could exceed what the {} may spend, in total, this day or this month. Ask your operator for more."
_RATE = "This {} has used up its {} for this minute. Try again in {} s."
_OVER = {"key_disabled": "This API key has been disabled.", "key_expired": "This API key has expired."}
_COUNTED = {"rpm": "requests", "tpm": "tokens"}
_BUSY = "This {} has as many calls in flight as it may. Wait for one to end."
FREE = Price(id=None, model_name="", rates={"input": Decimal(0), "output": Decimal(0)})


@dataclass(slots=True)
class AdmittedCall:
    """A call that is held and may go upstream, by one of `routes`, the first first. `route`, `secret`: of the attempt that is
    under way, or has been answered."""

    protocol: Protocol
    request: CallRequest
    caller: Caller
    record: CallRecord
    routes: tuple[Route, ...]
    price: Price
    limits: ModelLimits
    open_ended: bool
    bound: Bound = NO_BOUND
    ceiling: Decimal = Decimal(0)
    output_limit_applied: int | None = None
    rate_headers: Mapping[str, str] = field(default_factory=dict)
    attempts: list[dict[str, object]] = field(default_factory=list)
    route: Route = field(init=False)
    secret: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.route = self.routes[0]

    def take(self, route: Route, secret: str | None) -> None:
        self.secret = secret
        if route is not self.route:
            self.route = route
            self.record.routed(route)

    @property
    def asks_usage(self) -> bool:
        """Whether usage is asked for on the client's behalf in a stream."""
        request = self.request
        return request.is_stream and not request.wants_usage and self.route.target.stream_usage == "inject"

    @property
    def supposed_tier(self) -> str | None:
        """The service tier at which an answer is billed that broke off before it told one."""
        return tier_supposed(self.request.service_tier, self.price.service_tiers)

    def set_bound(self, bound: Bound) -> None:
        self.bound = bound
        self.ceiling = self.price.ceiling(bound, multiplier=self.record.multiplier)

    def affordable(self, available: Decimal) -> int:
        """Output tokens of one choice that `available` covers."""
        most = self.price.affordable_output(available, self.bound, multiplier=self.record.multiplier)
        return (most - self.request.extra_output) // self.request.choices


@dataclass(frozen=True, slots=True)
class Admitter:
    settings: Settings
    catalog: Catalog
    holds: Holds
    spool: Spool
    tokenizer: Tokenizer
    refused_until: RefusedUntil = field(default_factory=RefusedUntil)

    async def admit(
        self, protocol: Protocol, request: CallRequest, caller: Caller, record: CallRecord, *, place: int | None = None
    ) -> AdmittedCall:
        """`place`: the upstream that alone can serve the call. Raises what refuses a call: 400, 401, 402, 403, 404, 429, 503."""
        if not self.spool.accepting:
            raise Unavailable("Calls can't be recorded safely at the moment, so none is made. Try again shortly.", code="spool_unavailable")
        call = self.plan(protocol, request, caller, record, place=place)
        decision = self.refused_until.known(caller.key_id) or await self._hold(call)
        if decision.outcome == "credit":
            decision = await self._try_less(call, decision)
        if decision.outcome != "granted":
            self.refused_until.remember(caller.key_id, decision)
            raise self._refusal(call, decision)
        call.rate_headers = rate_headers(decision)
        record.admitted(ceiling=call.ceiling, open_ended=call.open_ended, max_tokens_applied=call.output_limit_applied)
        return call

    def plan(
        self, protocol: Protocol, request: CallRequest, caller: Caller, record: CallRecord, *, place: int | None = None
    ) -> AdmittedCall:
        """What would be held for the call, and nothing is. Raises what refuses it whatever the account has: 400, 403, 404."""
        routes = in_order(self._routes(caller, protocol, request, place), request.affinity or record.session)
        record.routed(routes[0])
        price = record.price = self._price(request, record)
        record.price_of = self.catalog.snapshot.price
        if self.catalog.snapshot.upstream_prices:
            record.upstream_price_of = self.catalog.snapshot.upstream_price
        limits = self.catalog.snapshot.limits.get(request.model, NO_LIMITS)
        bound, is_guess = self._bound(request, limits)
        open_ended = request.open_ended or is_guess
        call = AdmittedCall(protocol, request, caller, record, routes, price, limits, open_ended)
        call.set_bound(bound)
        return call

    async def fit(self, call: AdmittedCall, available: Decimal) -> bool:
        """As `admit` does for a call whose ceiling is more than `available`: whether it fits after all."""
        if call.ceiling <= available:
            return True
        await self._count_input(call)
        return self._fit_output(call, available)

    def _routes(self, caller: Caller, protocol: Protocol, request: CallRequest, place: int | None) -> tuple[Route, ...]:
        if not caller.may_use(request.model):
            raise Forbidden(
                f"This API key may not use the model {request.model!r}. `GET /v1/models` lists those that it may.", code="model_not_allowed"
            )
        routes = self.catalog.snapshot.routes(request.model)
        if not routes:
            raise NotFound(
                f"The model {request.model!r} does not exist here. `GET /v1/models` lists those that do.", code="model_not_found"
            )
        if place is not None:
            routes = tuple(route for route in routes if route.target.id == place)
            if not routes:
                raise InvalidRequest(
                    f"The model {request.model!r} is not served where what this request refers to by id lies. Use the model that made it, "
                    "or send its content.",
                    code="reference_elsewhere",
                )
        if caller.group is not None:
            routes = tuple(route for route in routes if caller.group.may_go_to(route.target.tags))
            if not routes:
                raise Forbidden(f"No upstream of the model {request.model!r} is open to your group.", code="model_not_allowed")
        return spoken(routes, protocol, request.model)

    def _price(self, request: CallRequest, record: CallRecord) -> Price:
        if request.is_free:
            return FREE
        price = self.catalog.snapshot.price(request.model)
        if price is not None:
            return price
        if not self.settings.allow_unpriced:
            raise NotFound(
                f"The model {request.model!r} has no price here, so it can't be called. Ask your operator to set one.",
                code=UNPRICED,
            )
        record.flag("unpriced")
        return FREE

    def _bound(self, request: CallRequest, limits: ModelLimits) -> tuple[Bound, bool]:
        """What the call can use at most, and whether its output is bounded by a guess only."""
        contexts = (limits.context_tokens or 0) * request.inputs
        input_bound = min(request.input_bound, contexts or request.input_bound)
        if request.open_ended:
            input_bound = contexts or request.input_bound
        units = request.measured.units
        if not request.has_output:
            return Bound(input_bound, 0, request.kinds, service_tier=request.service_tier, units=units), False
        known = limits.max_output_tokens if request.output_limit is None else request.output_limit
        guess = self.settings.default_output_ceiling if request.output_allowance is None else request.output_allowance
        output = guess if known is None else known
        most = output * request.choices + request.extra_output
        return Bound(input_bound, most, request.kinds, service_tier=request.service_tier, units=units), known is None

    async def _hold(self, call: AdmittedCall) -> Decision:
        if call.ceiling > LARGEST_CHARGE:
            raise InvalidRequest("The call may cost more than one call can be billed. Lower its output limit.", code="call_too_large")
        return await self.holds.reserve(
            Hold(
                request_id=call.record.request_id,
                user_id=call.caller.user_id,
                key_id=call.caller.key_id,
                key_hash=call.caller.key_hash,
                amount=call.ceiling,
                tokens=call.bound.input_tokens + call.bound.output_tokens,
                open_ended=call.open_ended,
                entry=call.record.orphan_entry(),
            )
        )

    async def _try_less(self, call: AdmittedCall, decision: Decision) -> Decision:
        """Counts the input instead of bounding it by its bytes, then lowers the output limit where the client left it open. Not for an
        account that has nothing: it could keep the tokenizer busy for free."""
        if not decision.available or decision.available <= 0:
            return decision
        await self._count_input(call)
        for _ in range(3):  # the balance may move between two looks at it
            if not self._fit_output(call, decision.available or Decimal(0)):
                break
            decision = await self._hold(call)
            if decision.outcome != "credit":
                break
        return decision

    def _fit_output(self, call: AdmittedCall, available: Decimal) -> bool:
        """Whether the call fits, maybe with a lower output limit than would be held without one of the client's own."""
        if call.ceiling <= available:
            return True
        request, fitting = call.request, call.affordable(available)
        may_limit = request.output_limit is None and request.takes_limit and self.settings.output_limit == "apply"
        if not may_limit or fitting < SMALLEST_APPLIED_LIMIT:
            return False
        call.set_bound(replace(call.bound, output_tokens=fitting * request.choices + request.extra_output))
        call.output_limit_applied = fitting
        return True

    async def _count_input(self, call: AdmittedCall) -> None:
        call.set_bound(replace(call.bound, input_tokens=await self._counted_input(call)))

    async def _counted_input(self, call: AdmittedCall) -> int:
        """No more than the bound by bytes. What isn't text, such as the JSON around it, still counts by its bytes."""
        bound = call.bound.input_tokens
        if call.request.open_ended or len(call.request.body) > LARGEST_COUNTED:
            return bound
        texts = await asyncio.to_thread(call.protocol.request_texts, call.request.body)
        text_bytes = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
        counted = await self.tokenizer.count(call.request.model, texts)
        return max(bound - max(text_bytes - int(counted * TOKENIZER_MARGIN), 0), 1)

    def _refusal(self, call: AdmittedCall, decision: Decision) -> ProxyError:
        outcome = decision.outcome
        whose = "account" if outcome.startswith("user_") else "API key"
        wait = ceil(decision.retry_after or 0)
        match outcome.removeprefix("user_"):
            case "credit":
                return self._too_dear(call, decision)
            case "spend_limit":
                return InsufficientCredit(_SPENT.format(whose), code="spend_limit_reached")
            case "rpm" | "tpm" | "max_concurrency" as limit:
                text = _BUSY.format(whose) if limit == "max_concurrency" else _RATE.format(whose, _COUNTED[limit], wait)
                return LimitExceeded(text, retry_after=wait, headers=rate_headers(decision) | retry_headers(decision.retry_after))
            case "disabled" if whose == "account":
                return Forbidden("This account has been disabled. Ask your operator to enable it.", code="user_disabled")
            case "key_disabled" | "key_expired" as why:
                return Unauthenticated(_OVER[why] + " Ask your operator for a new one.", code=f"api_{why}")
        return Unauthenticated("Incorrect API key provided. Ask your operator for a new one.")

    def _too_dear(self, call: AdmittedCall, decision: Decision) -> InsufficientCredit:
        available = decision.available or Decimal(0)
        currency = self.settings.currency
        message = f"This call may cost up to {plain(call.ceiling)} {currency}, and {plain(available)} {currency} is available."
        fitting = 0
        if call.request.takes_limit:
            fitting = call.affordable(available)
        if fitting > 0:
            message += f" An output limit of {fitting} tokens or less would fit."
        message += f" Top up at {self.settings.topup_url}" if self.settings.topup_url else " Ask your operator for credit."
        return InsufficientCredit(message)
