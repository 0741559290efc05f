"""Which models an upstream says that it offers, and which of these can be called and billed here.

Formats: OpenAI's list, which Anthropic's is like (`data[].id`), and Gemini's (`models[].name`, with `models/` before it).
An upstream that gives no list raises `UpstreamFailed` or `UpstreamTimeout`; nothing is billed and no row written.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from app.catalog.addresses import auth_headers, join_url
from app.catalog.metadata_addresses import RefusedAddressError, looking_where
from app.catalog.model_routes import routes_of
from app.catalog.routing import Snapshot
from app.catalog.upstreams import find_upstream
from app.catalog.vault import Vault
from app.database import Database
from app.errors import UpstreamFailed, UpstreamTimeout
from app.models import ModelRoute, Upstream

TIMEOUT = 30.0
"""Seconds for the whole list."""
LARGEST_LIST = 8 * 1024 * 1024
MOST_OF_A_PAGE = 1000
"""Models that Anthropic and Gemini list at most at once; by default they list 20 and 50."""
ANTHROPIC_VERSION = "2023-06-01"


@dataclass(frozen=True, slots=True)
class Offered:
    """`id`: the upstream's own name. `name`: by which clients call it here; None: no route of this upstream leads to it."""

    id: str
    name: str | None
    has_price: bool


async def offered_models(
    database: Database, *, vault: Vault, upstream_id: int, snapshot: Snapshot, allow_link_local: bool = False
) -> list[Offered]:
    """By their ids. `allow_link_local`: see `metadata_addresses`."""
    async with database.reading() as session:
        upstream = await find_upstream(session, upstream_id=upstream_id)
        routes = await routes_of(session, upstream_ids=[upstream_id])
    secret = vault.decrypt(upstream.secret) if upstream.secret else ""
    listed = _ids(await _ask(upstream, secret, looking_where(allow_link_local=allow_link_local)))
    names = {one: _called(one, routes) for one in listed}
    return [Offered(one, names[one], snapshot.price(names[one] or one) is not None) for one in sorted(listed)]


async def _ask(upstream: Upstream, secret: str, extensions: dict[str, Any]) -> bytes:
    spoken = upstream.protocols or ["openai"]
    style, query = "bearer", ""
    if "openai" not in spoken:
        style, query = (
            ("x-api-key", f"?limit={MOST_OF_A_PAGE}") if "anthropic" in spoken else ("x-goog-api-key", f"?pageSize={MOST_OF_A_PAGE}")
        )
    headers = auth_headers(upstream.auth, style, secret) | {"anthropic-version": ANTHROPIC_VERSION}
    path = "/v1beta/models" if spoken == ["gemini"] else "/v1/models"
    received = bytearray()
    try:
        async with (
            asyncio.timeout(TIMEOUT),
            httpx.AsyncClient(timeout=TIMEOUT, headers=headers, trust_env=False) as client,
            client.stream("GET", join_url(upstream.base_url, path) + query, extensions=extensions) as response,
        ):
            async for part in response.aiter_bytes():
                received += part
                if len(received) > LARGEST_LIST:
                    raise UpstreamFailed("The upstream's list of models is too large.", code="upstream_list")
    except (httpx.TimeoutException, TimeoutError):
        raise UpstreamTimeout("The upstream did not list its models in time.") from None
    except (httpx.HTTPError, httpx.InvalidURL):
        raise UpstreamFailed("The upstream can't be reached at the moment. Check its base_url.", code="upstream_unreachable") from None
    except RefusedAddressError as refused:
        raise UpstreamFailed(str(refused), code="upstream_unreachable") from None
    if response.status_code != 200:
        raise UpstreamFailed(f"The upstream answered with status {response.status_code} instead of a list of models.", code="upstream_list")
    return bytes(received)


def _ids(body: bytes) -> set[str]:
    try:
        parsed: Any = json.loads(body)
    except (ValueError, RecursionError):
        parsed = None
    entries = (parsed.get("data") or parsed.get("models") or []) if isinstance(parsed, dict) else parsed
    if not isinstance(entries, list):
        raise UpstreamFailed("The upstream's answer is no list of models.", code="upstream_list")
    found = [entry.get("id") or entry.get("name") for entry in entries if isinstance(entry, dict)]
    return {one.removeprefix("models/") for one in found if isinstance(one, str)}


def _called(model: str, routes: Sequence[ModelRoute]) -> str | None:
    for route in routes:
        if route.upstream_model == model or (route.upstream_model is None and route.pattern == model):
            return route.pattern
    fits = any(route.pattern.endswith("*") and model.startswith(route.pattern[:-1]) for route in routes)
    return model if fits else None
