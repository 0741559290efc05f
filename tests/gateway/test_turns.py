"""The one turn that a half-open upstream gives isn't lost with the client of the call that has it."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from app.billing.price import Price
from app.catalog.callers import Caller
from app.gateway.admission.admit import NO_LIMITS, AdmittedCall
from app.gateway.call_record import CallRecord
from app.gateway.forwarding import failover
from app.gateway.forwarding.breaker import IN_A_ROW, Breakers
from app.gateway.forwarding.failover import Failover
from app.gateway.protocols.chat_completions import ChatCompletions
from app.settings import Settings
from tests.gateway.test_breaker import Clock
from tests.gateway.test_order import route

FAILING, HALF_OPEN = 1, 2
PRICE = Price(id=None, model_name="m", rates={})


class EndlessError:
    """An answer of 500, whose body doesn't come."""

    status = 500
    raw_headers: tuple[tuple[bytes, bytes], ...] = ()

    def __init__(self) -> None:
        self.is_read = asyncio.Event()

    async def chunks(self) -> AsyncIterator[bytes]:
        self.is_read.set()
        await asyncio.Event().wait()
        yield b""

    def close(self) -> None:
        pass


async def test_a_client_that_leaves_while_another_answer_is_read_gives_the_turn_back(monkeypatch: pytest.MonkeyPatch) -> None:
    protocol, clock, answer = ChatCompletions(), Clock(), EndlessError()
    request = protocol.read(b'{"model": "m", "messages": [{"role": "user", "content": "hi"}]}')
    caller = Caller("u", 1, "key", None, None, False, "")
    routes = (route(FAILING), route(HALF_OPEN, priority=1))
    call = AdmittedCall(protocol, request, caller, CallRecord(api="chat_completions"), routes, PRICE, NO_LIMITS, False)
    nothing: Any = SimpleNamespace()
    steps = Failover(Settings(_env_file=None), nothing)
    breakers = steps.breakers = Breakers(pause=1.0, clock=clock)
    for _ in range(IN_A_ROW):
        breakers.failed(HALF_OPEN)
    clock.now += 2.0

    async def forward(*_: object) -> EndlessError:
        return answer

    monkeypatch.setattr(failover, "forward", forward)
    going = asyncio.create_task(cast(Any, steps.forward(call, (), has_left=lambda: False)))
    async with asyncio.timeout(15):
        await answer.is_read.wait()
    assert not breakers.may_try(HALF_OPEN), "it is this call's turn"
    going.cancel()
    await asyncio.wait([going])

    assert going.cancelled()
    assert [attempt["upstream_id"] for attempt in call.attempts] == [FAILING]
    assert breakers.may_try(HALF_OPEN)
