"""The official client, synchronous and asynchronous, behind the same few words."""

import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import openai
import pytest

from tests.harness.scene import Scene
from tests.harness.standing import db, proxy  # noqa: F401
from tests.harness.tls import NO_TLS

OpenAIClient = openai.OpenAI | openai.AsyncOpenAI


async def done(result: Any) -> Any:
    """What a call of either client comes to."""
    return await result if inspect.isawaitable(result) else result


async def chunks(stream: Any) -> list[Any]:
    """All chunks of either client's stream."""
    if hasattr(stream, "__aiter__"):
        return [chunk async for chunk in stream]
    return list(stream)


async def first_chunks(stream: Any, count: int) -> list[Any]:
    iterator = aiter(stream) if hasattr(stream, "__aiter__") else iter(stream)
    return [await anext(iterator) if hasattr(iterator, "__anext__") else next(iterator) for _ in range(count)]


BOTH = pytest.mark.parametrize("connect", ["sync", "async"], indirect=True)
"""With either client, where what the client itself does decides; elsewhere the synchronous one will do."""


def is_sync(request: pytest.FixtureRequest) -> bool:
    return getattr(request, "param", "sync") == "sync"


@pytest.fixture
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Callable[..., OpenAIClient]]:
    """`connect(scene)` is an official client with the scene's key; it never retries, so that a call is one call."""
    made: list[OpenAIClient] = []

    def client(scene: Scene, **options: Any) -> OpenAIClient:
        options = {"api_key": scene.key, "base_url": f"{scene.proxy.url}/v1", "max_retries": 0, "timeout": 20} | options
        if is_sync(request):
            made.append(openai.OpenAI(http_client=httpx.Client(trust_env=False, verify=NO_TLS), **options))
        else:
            made.append(openai.AsyncOpenAI(http_client=httpx.AsyncClient(trust_env=False, verify=NO_TLS), **options))
        return made[-1]

    yield client
    for one in made:
        await done(one.close())


Connect = Callable[..., OpenAIClient]
