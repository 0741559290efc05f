"""Three processes get 64 calls each at the same time, each with a key of its own of one user, who can pay for so many of
them: exactly so many are let through, and the others are told 402 before anything goes upstream. The upstream answers only
when each call's fate is known, so that no money is freed meanwhile.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal

import aiohttp
import pytest

from tests.faults.conftest import Tally
from tests.harness import scene as scenes
from tests.harness.admin import Admin
from tests.harness.books import charge
from tests.harness.fault_books import Sampler, assert_books
from tests.harness.postgres import Database
from tests.harness.proxy import Proxy
from tests.harness.scale import scaled
from tests.harness.scene import Scene

PROXIES, EACH = 3, 64
CALLS = PROXIES * EACH
AFFORDABLE = (37, 190, 1, 64, 100, 8, 0)
"""Of one run, and of the next, and so on."""
MAX_TOKENS = 100
RATES = {"input": "0", "output": "10"}
CEILING = Decimal(MAX_TOKENS * 10) / 1_000_000
WITHIN = 30.0


@pytest.fixture(scope="module")
def three(proxies: Callable[..., Proxy]) -> list[Proxy]:
    """Patient ones: on a busy machine a call waits for its decision rather than be refused for want of one."""
    return [proxies(ADMIT_WAIT=str(WITHIN)) for _ in range(PROXIES)]


@pytest.fixture(scope="module")
def admin(three: list[Proxy]) -> Iterator[Admin]:
    with Admin(three[0].url) as operator:
        yield operator


@pytest.mark.timeout(scaled(full=900, short=120))
async def test_a_user_who_can_pay_for_some(
    three: list[Proxy], admin: Admin, db: Database, scale: Callable[..., int], tally: Callable[..., Tally]
) -> None:
    runs = tally(f"overspend: {PROXIES} processes x {EACH} calls", "runs", scale(full=50, short=1))
    with Sampler(db.url):
        for number in range(runs.asked):
            affordable = AFFORDABLE[number % len(AFFORDABLE)]
            with scenes.scene(three[0], admin, db, credit=str(CEILING * affordable), rates=RATES) as scene:
                for other in three[1:]:
                    scene.known_to(other)
                statuses = await call_at_once(scene, three)
                assert Counter(statuses) == Counter({200: affordable, 402: CALLS - affordable})
                assert_paid(scene, affordable)
            runs.add()
    assert_books(db, at_rest_within=0)


def assert_paid(scene: Scene, affordable: int) -> None:
    """A row for each call, the refused ones at no cost; what is spent is the price of what the upstream says it answered."""
    rows, answered = scene.rows(), scene.upstream.ledger
    assert Counter((row["status"], row["http_status"]) for row in rows) == Counter(
        {("success", 200): affordable, ("failed", 402): CALLS - affordable}
    )
    assert len(scene.upstream.requests) == len(answered) == affordable
    spent = sum((charge(RATES, {"input_tokens": one.input, "output_tokens": one.output}) for one in answered), Decimal(0))
    account = scene.account()
    assert (account["spent"], account["held"], account["credit"]) == (spent, 0, CEILING * affordable)
    assert sum(row["charge"] for row in rows if row["status"] == "success") == spent


async def call_at_once(scene: Scene, three: list[Proxy]) -> list[int]:
    """The statuses of all calls, every other one a stream."""
    gate = scene.upstream.hold()
    refused: list[int] = []
    keys = [scene.key, *(scene.admin.add_key(scene.user, name=other.url)["key"] for other in three[1:])]

    async def call(client: aiohttp.ClientSession, number: int) -> int:
        body = scene.chat("go", max_tokens=MAX_TOKENS, stream=number % 2 == 0)
        headers = {"Authorization": f"Bearer {keys[number % PROXIES]}"}
        async with client.post(f"{three[number % PROXIES].url}/v1/chat/completions", json=body, headers=headers) as answer:
            await answer.read()
        if answer.status != 200:
            refused.append(answer.status)
        return answer.status

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), trust_env=False) as client:
        calls = [asyncio.ensure_future(call(client, number)) for number in range(CALLS)]
        try:
            await all_decided(scene, refused)
        finally:
            gate.open()
        return await asyncio.wait_for(asyncio.gather(*calls), WITHIN)


async def all_decided(scene: Scene, refused: list[int]) -> None:
    """Every call waits at the upstream, or was refused."""
    deadline = asyncio.get_running_loop().time() + WITHIN
    while len(scene.upstream.requests) + len(refused) < CALLS:
        assert asyncio.get_running_loop().time() < deadline, (len(scene.upstream.requests), Counter(refused))
        await asyncio.sleep(0.01)
