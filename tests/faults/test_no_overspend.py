"""An account that can pay for exactly 37 calls gets exactly 37 of 200 that come at once through two processes: the rest
is told 402 before anything goes upstream, and afterwards the books are right to the last digit.
"""

import asyncio
from collections.abc import Callable, Iterator
from decimal import Decimal

import aiohttp
import pytest

from tests.faults.conftest import Tally
from tests.harness.admin import Admin
from tests.harness.books import books
from tests.harness.postgres import Database
from tests.harness.proxy import Proxy
from tests.harness.scale import scaled
from tests.harness.scene import Scene
from tests.harness.scene import scene as set_scene

RUNS = scaled(full=50, short=3)
CALLS, AFFORDABLE = 200, 37
MAX_TOKENS = 100
RATES = {"input": "0", "output": "10"}
CEILING = Decimal(MAX_TOKENS * 10) / 1_000_000
WITHIN = 30.0


@pytest.fixture(scope="module")
def pair(proxies: Callable[..., Proxy]) -> tuple[Proxy, Proxy]:
    return proxies(), proxies()


@pytest.fixture(scope="module")
def admin(pair: tuple[Proxy, Proxy]) -> Iterator[Admin]:
    with Admin(pair[0].url) as operator:
        yield operator


async def all_decided(scene: Scene, refused: list[int]) -> None:
    """Every call is either waiting at the upstream or refused."""
    deadline = asyncio.get_running_loop().time() + WITHIN
    while len(scene.upstream.requests) + len(refused) < CALLS:
        assert asyncio.get_running_loop().time() < deadline, (len(scene.upstream.requests), len(refused))
        await asyncio.sleep(0.01)


async def call_at_once(scene: Scene, pair: tuple[Proxy, Proxy]) -> list[int]:
    """The statuses of all calls; the upstream answers only when each call's fate is known."""
    gate = scene.upstream.hold()
    refused: list[int] = []
    body = scene.chat("go", max_tokens=MAX_TOKENS)

    async def call(client: aiohttp.ClientSession, proxy: Proxy, key: str) -> int:
        headers = {"Authorization": f"Bearer {key}"}
        async with client.post(f"{proxy.url}/v1/chat/completions", json=body, headers=headers) as answer:
            await answer.read()
        if answer.status != 200:
            refused.append(answer.status)
        return answer.status

    keys = (scene.key, scene.admin.add_key(scene.user)["key"])  # one for both would line all calls up behind its meter
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
        calls = [asyncio.ensure_future(call(client, pair[index % 2], keys[index % 2])) for index in range(CALLS)]
        try:
            await all_decided(scene, refused)
        finally:
            gate.open()
        return await asyncio.wait_for(asyncio.gather(*calls), WITHIN)


@pytest.mark.parametrize("run", range(RUNS))
async def test_37_of_200_calls_at_once(
    run: int, pair: tuple[Proxy, Proxy], admin: Admin, db: Database, tally: Callable[..., Tally]
) -> None:
    runs = tally("overspend", "runs of 200 calls on 2 processes", 1)
    with set_scene(pair[0], admin, db, credit=str(CEILING * AFFORDABLE), rates=RATES) as scene:
        scene.known_to(pair[1])
        statuses = await call_at_once(scene, pair)

        assert {status: statuses.count(status) for status in set(statuses)} == {
            200: AFFORDABLE,
            402: CALLS - AFFORDABLE,
        }
        assert len(scene.upstream.requests) == AFFORDABLE
        books(db)
        rows, account = scene.rows(), scene.account()
        paid = [row for row in rows if row["status"] == "success"]
        assert (len(rows), len(paid)) == (CALLS, AFFORDABLE)
        spent = sum(usage.output for usage in scene.upstream.ledger) * Decimal(10) / 1_000_000
        assert account["spent"] == spent
        assert account["credit"] - account["billed"] == CEILING * AFFORDABLE - spent.quantize(Decimal("0.0001"))
        assert account["held"] == 0
    runs.add()
