"""Step 3 for all routes of a call: one after another, until an upstream answers.

Only before the first byte to the client, for `FAILOVER_WAIT` seconds and `FAILOVER_ATTEMPTS` attempts at most, and while the
client is there:

    no connection, cut or no answer in time, 408, 429, 5xx (but 501)    the next route; with none left, the same upstream
                                                                        once more, after a pause, or after `Retry-After`
    nothing at all within a time that leaves one for another attempt    the next route, if one could serve
    401, 402, 403, what is no answer                                    the next route; with none left, another of its secrets
    a success that ends before its first byte                           the next route, if there is one
    anything else                                                       is the client's answer

An upstream whose breaker is open comes after all others. One that has asked for a pause (`cooldown.py`) is passed over until
then: only a call that others have failed waits for it. Where nothing helps, the client gets what the last attempt came to. Each
attempt is on the call's row.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from app.catalog.routing import Route
from app.errors import ProxyError, UpstreamFailed, UpstreamTimeout
from app.gateway.admission.admit import AdmittedCall
from app.gateway.forwarding.attempt import attempted, cost_of_error, cost_of_input
from app.gateway.forwarding.breaker import Breakers
from app.gateway.forwarding.cooldown import Cooldowns, apart, retry_after
from app.gateway.forwarding.forward import forward, refuse_unusable
from app.gateway.forwarding.keyring import Keyring
from app.gateway.forwarding.transport import Transport, UpstreamAnswer, UpstreamBroken
from app.settings import Settings

COOLING = (429, 503, 529)
"""Whose `Retry-After` all calls heed: another status may be for what one call asks. 529 is Anthropic's `overloaded_error`:
https://docs.anthropic.com/en/api/errors"""
SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 0.5
"""Seconds before the same upstream is asked again that didn't say when; by lot."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt that another one may mend. `answer` or `error`: what the client gets if none does. `again_after`: seconds after
    which the same upstream may be asked again; None: that is of no use."""

    answer: UpstreamAnswer | None = None
    error: ProxyError | None = None
    again_after: float | None = None


class Course:
    """The routes of one call that are left to try. `retries`: of the same upstream. `cooling`: seconds for which a route isn't
    to be taken."""

    def __init__(
        self,
        routes: tuple[Route, ...],
        breakers: Breakers,
        *,
        cooling: Callable[[Route], float],
        wait: float,
        attempts: int,
        retries: int,
    ) -> None:
        self._routes = routes
        self._breakers = breakers
        self._cooling = cooling
        self._attempts = attempts
        self._retries = retries
        self._deadline = time.monotonic() + wait
        self._tried: Counter[int] = Counter()
        self._again: dict[int, float] = {}

    @property
    def left(self) -> float:
        """Seconds in which another attempt may start."""
        return self._deadline - time.monotonic()

    @property
    def has_elsewhere(self) -> bool:
        """Whether another upstream could be tried after this one, at once or when the pause that it asked for is over."""
        if len(self._routes) == 1 or self._tried.total() >= self._attempts:
            return False
        return any(self._cooling(route) < self.left for route in self._routes if route.target.id not in self._tried)

    @property
    def has_healthy_elsewhere(self) -> bool:
        """Whether another one could serve, as far as is known."""
        may_try = self._tried.total() < self._attempts
        return may_try and any(self._breakers.state(route.target.id) != "open" for route in self._untried())

    def next(self) -> tuple[Route, float] | None:
        """A route, and the seconds to wait before it is taken; None: it is over."""
        if self._tried and (self._tried.total() >= self._attempts or self.left <= 0):
            return None
        for route in self._untried():
            if self._breakers.may_try(route.target.id):
                return self._take(route)
        open_ones = [route.target.id for route in self._untried()]
        if open_ones:
            return self._take(self._route_to(self._breakers.soonest(open_ones)))
        waits = {place: after - time.monotonic() for place, after in self._again.items() if self._tried[place] <= self._retries}
        if self._tried:
            waits |= {route.target.id: apart(self._cooling(route)) for route in self._routes if route.target.id not in self._tried}
        place = min(waits, key=lambda one: waits[one], default=None)
        if place is None or waits[place] >= self.left:
            return None
        return self._take(self._route_to(place), after=max(waits[place], 0.0))

    def may_ask_again(self, upstream_id: int, after: float) -> None:
        self._again[upstream_id] = time.monotonic() + after

    def _untried(self) -> Iterator[Route]:
        return (route for route in self._routes if route.target.id not in self._tried and not self._cooling(route))

    def _take(self, route: Route, *, after: float = 0.0) -> tuple[Route, float]:
        self._tried[route.target.id] += 1
        self._again.pop(route.target.id, None)
        return route, after

    def _route_to(self, upstream_id: int) -> Route:
        return next(route for route in self._routes if route.target.id == upstream_id)


@dataclass(slots=True)
class Failover:
    """A process's. `breakers`, `keyring` and `cooldowns` are what calls learn from one another."""

    settings: Settings
    transport: Transport
    breakers: Breakers = field(init=False)
    keyring: Keyring = field(default_factory=Keyring)
    cooldowns: Cooldowns = field(default_factory=Cooldowns)

    def __post_init__(self) -> None:
        self.breakers = Breakers(pause=self.settings.breaker_pause)

    async def forward(
        self, call: AdmittedCall, client_headers: Iterable[tuple[bytes, bytes]], *, has_left: Callable[[], bool]
    ) -> UpstreamAnswer:
        """The answer that is the client's. Raises `UpstreamFailed`, `UpstreamTimeout` as the last attempt did, and `LimitExceeded`
        or `Unavailable` where all upstreams have asked for a pause."""
        settings = self.settings
        course = Course(
            call.routes,
            self.breakers,
            cooling=lambda route: self.cooldowns.left(route.target, _model(call, route)),
            wait=settings.failover_wait,
            attempts=settings.failover_attempts,
            retries=settings.upstream_retries,
        )
        way = course.next()
        while way is not None:
            route, pause = way
            if pause:
                await asyncio.sleep(pause)
            call.take(route, self.keyring.take(route.target, cooling=self.cooldowns.secrets(route.target, _model(call, route))))
            outcome = await self._attempt(call, client_headers, course)
            if isinstance(outcome, UpstreamAnswer):
                return outcome
            if outcome.again_after is not None:
                course.may_ask_again(route.target.id, outcome.again_after)
            way = None if has_left() else course.next()
            if way is None:
                return _last(outcome)
            if outcome.answer is not None:
                try:
                    await self._leave(call, outcome.answer)
                except BaseException:  # the client has left: the turn that this call had there is another's
                    self.breakers.undecided(way[0].target.id)
                    raise
        raise self.cooldowns.refusal(self.cooldowns.of(route.target, _model(call, route)) for route in call.routes)

    def broke_off(self, call: AdmittedCall) -> None:
        """An answer that had begun didn't come to its end, for the upstream's fault."""
        self.breakers.failed(call.route.target.id)

    async def _attempt(self, call: AdmittedCall, client_headers: Iterable[tuple[bytes, bytes]], course: Course) -> UpstreamAnswer | Failure:
        upstream_id = call.route.target.id
        started = time.monotonic()
        answer: UpstreamAnswer | None = None
        try:
            answer = await self._answer(call, client_headers, course)
            if answer.status < 300 and course.has_elsewhere:
                await self._begin(answer, course)
        except (UpstreamFailed, UpstreamTimeout) as failed:
            self.breakers.failed(upstream_id)
            call.attempts.append(attempted(call, started, error=failed.code))
            if answer is not None:
                call.attempts[-1] |= await cost_of_input(call)
            return Failure(error=failed, again_after=None if isinstance(failed, UpstreamTimeout) else _pause())
        except BaseException as failed:  # the client has left meanwhile, or a fault of our own
            self.breakers.undecided(upstream_id)
            call.attempts.append(attempted(call, started, error=type(failed).__name__))
            raise
        call.attempts.append(attempted(call, started, status=answer.status))
        return self._judge(call, answer)

    async def _answer(self, call: AdmittedCall, client_headers: Iterable[tuple[bytes, bytes]], course: Course) -> UpstreamAnswer:
        within = self._first_byte_within(call, course)
        if within is None:
            return await forward(self.transport, call, client_headers)
        limit = asyncio.timeout(within)
        try:
            async with limit:
                return await forward(self.transport, call, client_headers)
        except TimeoutError:
            if not limit.expired():
                raise
            raise UpstreamTimeout("The upstream did not begin to answer in time. Try again.") from None

    def _first_byte_within(self, call: AdmittedCall, course: Course) -> float | None:
        """Seconds for a head to come; None: no limit but the transport's. An upstream that says nothing is not told from one that
        thinks: it is left only where another one could serve, and has the time to."""
        within = call.route.target.first_byte_within
        if within is None and call.request.is_stream and call.request.form is None:
            within = self.settings.first_byte_wait
        return within if within and within < course.left and course.has_healthy_elsewhere else None

    async def _leave(self, call: AdmittedCall, answer: UpstreamAnswer) -> None:
        """For another attempt."""
        try:
            call.attempts[-1] |= await cost_of_error(call, answer)
        finally:
            answer.close()

    async def _begin(self, answer: UpstreamAnswer, course: Course) -> None:
        """Waits for the body's first bytes, for as long as another attempt could be made, or until a client that is kept alive
        must hear something. Raises `UpstreamFailed` where none come."""
        keepalive = self.settings.keepalive
        try:
            begins = await answer.begins(within=min(course.left, keepalive) if keepalive else course.left)
        except UpstreamBroken as cut:
            answer.close()
            raise UpstreamFailed(f"The upstream's answer is incomplete: {cut}. Try again.", code="upstream_broken") from None
        except BaseException:
            answer.close()
            raise
        if not begins:
            answer.close()
            raise UpstreamFailed("The upstream sent an answer without content. Try again.", code="upstream_empty")

    def _judge(self, call: AdmittedCall, answer: UpstreamAnswer) -> UpstreamAnswer | Failure:
        target = call.route.target
        if 200 <= answer.status < 300:
            self.breakers.succeeded(target.id)
            return answer
        if answer.status in (401, 403) and self.keyring.refused(target, call.secret):
            self.breakers.undecided(target.id)
            return Failure(answer=answer, again_after=0.0)
        if answer.status == 429:
            self.breakers.undecided(target.id)
            return Failure(answer=answer, again_after=self._told(call, answer))
        if answer.status in (401, 402, 403) or not 400 <= answer.status < 600:
            self.breakers.failed(target.id)
            return Failure(answer=answer)
        if answer.status == 408 or (answer.status >= 500 and answer.status != 501):
            self.breakers.failed(target.id)
            told = self._told(call, answer)
            return Failure(answer=answer, again_after=_pause() if told is None else told)
        self.breakers.succeeded(target.id)
        return answer

    def _told(self, call: AdmittedCall, answer: UpstreamAnswer) -> float | None:
        """Seconds after which this call may ask again, where the upstream tells. Other calls wait for that, too."""
        seconds = retry_after(answer)
        if seconds and answer.status in COOLING:
            target, model = call.route.target, _model(call, call.route)
            self.cooldowns.begin(target, model, call.secret, status=answer.status, seconds=seconds)
            if self.cooldowns.of(target, model) is None:  # with another secret, at once
                return 0.0
        return seconds and apart(seconds)


def _last(failure: Failure) -> UpstreamAnswer:
    if failure.answer is None:
        assert failure.error is not None
        raise failure.error
    refuse_unusable(failure.answer)
    return failure.answer


def _pause() -> float:
    return random.uniform(SHORTEST_PAUSE, LONGEST_PAUSE)  # noqa: S311 (no secret)


def _model(call: AdmittedCall, route: Route) -> str:
    return route.upstream_model or call.request.model
