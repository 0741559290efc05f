"""Whatever an upstream says it has used, through a real proxy, for an account that has just what its calls may cost: each
call is answered as the upstream did, has one row, and takes no more than it held. `test_hostile_usage.py` looks closer, at
the meter alone."""

import asyncio
import json
from collections.abc import Callable
from decimal import Decimal
from itertools import count
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.faults.conftest import Tally
from tests.faults.test_hostile_usage import reports
from tests.harness.answers import sse
from tests.harness.books import wait_until
from tests.harness.fault_books import Sampler, assert_books
from tests.harness.scale import scaled
from tests.harness.scene import Scene

PAYLOADS, AT_ONCE = scaled(full=10_000, short=200), 10
MAX_TOKENS = 100
RATES = {"input": "0", "output": "100"}  # a token costs the smallest credit there is
CEILING = Decimal(MAX_TOKENS * 100) / 1_000_000
TRYING = settings(
    max_examples=PAYLOADS // AT_ONCE,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # an example changes the books, so that none is tried again
    suppress_health_check=list(HealthCheck),
)


def whole(number: int, usage: Any) -> bytes:
    return json.dumps({"id": str(number), "choices": [{"index": 0, "message": {"content": " red"}}], "usage": usage}).encode()


def streamed(number: int, usage: Any) -> list[str]:
    choices = [{"index": 0, "delta": {"content": " red"}, "finish_reason": None}]
    return [json.dumps({"id": str(number), "choices": choices}), json.dumps({"id": str(number), "choices": [], "usage": usage}), "[DONE]"]


@pytest.mark.timeout(scaled(full=1200, short=120))
def test_no_payload_costs_more_than_was_held(new_scene: Callable[..., Scene], tally: Callable[..., Tally]) -> None:
    tried = tally("hostile usage, through the proxy", "payloads", PAYLOADS)
    scene = new_scene(credit=str(CEILING * AT_ONCE), rates=RATES)
    numbers = count()

    @TRYING
    @given(st.lists(reports, min_size=AT_ONCE, max_size=AT_ONCE), st.booleans())
    def one_after_the_other(payloads: list[Any], stream: bool) -> None:
        sent = set()
        for number, usage in zip(numbers, payloads, strict=False):
            if stream:
                told, report, done = streamed(number, usage)
                scene.upstream.stream([told, report, done])
                sent.add(sse(told) + (b"" if isinstance(usage, dict) else sse(report)) + sse(done))  # only a report was asked for by us
            else:
                scene.upstream.answer(body=whole(number, usage))
                sent.add(whole(number, usage))
        answers = scene.db.run(all_at_once(scene, stream))

        assert {status for status, _ in answers} == {200}
        assert {content for _, content in answers} == sent
        tried.add(len(answers))
        wait_until(lambda: scene.account()["held"] == 0, what="all have ended")
        account = scene.account()
        assert account["spent"] <= CEILING * tried.reached
        if spent := CEILING * AT_ONCE - (account["credit"] - account["spent"]):
            scene.admin.add_credit(scene.user, f"{spent:.4f}")

    with Sampler(scene.db.url) as sampler:
        one_after_the_other()
    assert sampler.lowest is not None
    assert_books(scene.db, at_rest_within=20)
    assert len(scene.rows()) == tried.reached
    assert {row["status"] for row in scene.rows()} == {"success"}
    assert {row["usage_source"] for row in scene.rows()} == {"provider", "estimated"}
    assert [row for row in scene.rows() if row["charge"] > CEILING or row["write_off"]] == [], "cut before it reaches the ledger"
    assert "reduced" not in {flag for row in scene.rows() for flag in row["flags"] or ()}


async def all_at_once(scene: Scene, stream: bool) -> list[tuple[int, bytes]]:
    body = scene.chat("go", max_tokens=MAX_TOKENS, stream=stream)

    async def call(client: aiohttp.ClientSession) -> tuple[int, bytes]:
        async with client.post(f"{scene.proxy.url}/v1/chat/completions", json=body) as answer:
            return answer.status, await answer.read()

    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {scene.key}"}, trust_env=False) as client:
        return await asyncio.gather(*(call(client) for _ in range(AT_ONCE)))
