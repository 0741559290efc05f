"""A real, small chat call to an upstream, so that an operator sees whether address, secret and model are right.

Nobody is billed for it and no row is written. What the upstream answers, or why it doesn't, is the result: only an
unknown upstream, an unreadable secret and a missing model raise.
"""

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any

import httpx

from app.catalog.addresses import auth_headers, join_url
from app.catalog.metadata_addresses import RefusedAddressError, looking_where
from app.catalog.model_routes import routes_of
from app.catalog.upstreams import find_upstream
from app.catalog.vault import Vault
from app.database import Database
from app.errors import UnacceptableValue
from app.models import ModelRoute

TIMEOUT = 30.0
"""Seconds for the whole call."""
LARGEST_ANSWER = 256 * 1024
LONGEST_ERROR = 500
MOST_OUTPUT = 16
"""Tokens."""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """`status` None: there was no answer. `usage`: as the upstream reported it."""

    ok: bool
    model: str
    status: int | None
    latency_ms: int
    usage: dict[str, Any] | None
    error: str | None


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes

    def json(self) -> dict[str, Any]:
        try:
            parsed = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return parsed if isinstance(parsed, dict) else {}


async def probe_upstream(
    database: Database, *, vault: Vault, upstream_id: int, model: str | None, allow_link_local: bool = False
) -> ProbeResult:
    """`model`: as clients call it; by default the first that the upstream serves by name. `allow_link_local`: see
    `metadata_addresses`."""
    async with database.reading() as session:
        upstream = await find_upstream(session, upstream_id=upstream_id)
        name = _upstream_model(await routes_of(session, upstream_ids=[upstream_id]), model)
    secret = vault.decrypt(upstream.secret) if upstream.secret else ""
    url = join_url(upstream.base_url, "/v1/chat/completions")
    started = time.monotonic()
    try:
        answer = await _ask(url, auth_headers(upstream.auth, "bearer", secret), name, looking_where(allow_link_local=allow_link_local))
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, RefusedAddressError) as failed:
        return ProbeResult(False, name, None, _since(started), None, _without(secret, str(failed) or type(failed).__name__))
    usage = answer.json().get("usage")
    error = _error(answer)
    return ProbeResult(
        error is None,
        name,
        answer.status,
        _since(started),
        usage if isinstance(usage, dict) else None,
        error and _without(secret, error),
    )


async def _ask(url: str, headers: dict[str, str], model: str, extensions: dict[str, Any]) -> _Answer:
    body = {"model": model, "messages": [{"role": "user", "content": "Say hi."}]}
    async with asyncio.timeout(TIMEOUT), httpx.AsyncClient(timeout=TIMEOUT, headers=headers, trust_env=False) as client:
        answer = await _post(client, url, {**body, "max_tokens": MOST_OUTPUT}, extensions)
        # OpenAI's newer models refuse `max_tokens`, and many other servers know nothing else
        if answer.status == 400 and b"max_completion_tokens" in answer.body:
            answer = await _post(client, url, {**body, "max_completion_tokens": MOST_OUTPUT}, extensions)
    return answer


async def _post(client: httpx.AsyncClient, url: str, body: dict[str, Any], extensions: dict[str, Any]) -> _Answer:
    received = bytearray()
    async with client.stream("POST", url, json=body, extensions=extensions) as response:
        async for part in response.aiter_bytes():
            received += part
            if len(received) > LARGEST_ANSWER:
                break
    return _Answer(response.status_code, bytes(received))


def _upstream_model(routes: list[ModelRoute], model: str | None) -> str:
    if model is not None:
        mapped = next((route.upstream_model for route in routes if route.pattern == model), None)
        return mapped or model
    named = next((route for route in routes if not route.pattern.endswith("*")), None)
    if named is None:
        raise UnacceptableValue("model: this upstream serves wildcards only, so name a model to ask it for")
    return named.upstream_model or named.pattern


def _error(answer: _Answer) -> str | None:
    parsed = answer.json()
    if answer.status == 200 and isinstance(parsed.get("choices"), list):
        return None
    if answer.status == 200:
        return "The answer is no chat completion. Check the base_url."
    error = parsed.get("error")
    message = error.get("message") if isinstance(error, dict) else error
    return str(message or answer.body.decode("utf-8", "replace") or f"HTTP {answer.status}")


def _without(secret: str, text: str) -> str:
    """Upstreams like to repeat the key that they refuse."""
    return (text.replace(secret, "[secret]") if secret else text)[:LONGEST_ERROR]


def _since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)
