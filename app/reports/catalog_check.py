"""Whether what operators have defined can work: for `billing-proxy doctor`. It only reads, and asks upstreams what they offer,
which none of them bills."""

import asyncio
import re
from collections.abc import Iterator, Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.catalog.offered import offered_models
from app.catalog.routing import Catalog, Snapshot
from app.catalog.upstreams import UpstreamRoutes
from app.catalog.vault import Vault
from app.database import Database
from app.errors import ProxyError, UpstreamTimeout
from app.models import Upstream
from app.reports.findings import Finding, ok, warning, wrong

SHOWN = 5
"""Names of models in one line."""
AT_ONCE = 8
_NO_LIST = re.compile(r"\bstatus (404|405|501)\b")
_REFUSED = re.compile(r"\bstatus (401|402|403)\b")


async def secrets(session: AsyncSession, vault: Vault) -> list[Finding]:
    """Whether SECRET_KEY reads them all."""
    unreadable, old = [], 0
    for upstream in (await session.scalars(select(Upstream).order_by(Upstream.id))).all():
        stored = [secret for secret in (upstream.secret, *(upstream.more_secrets or ())) if secret]
        old += sum(not vault.is_current(secret) for secret in stored)
        if not all(_reads(vault, secret) for secret in stored):
            unreadable.append(upstream.name)
    if unreadable:
        return [
            wrong(
                "secrets",
                f"SECRET_KEY doesn't read the secrets of {_few(unreadable)}",
                "name the key that they were stored with in SECRET_KEY_OLD, or `upstreams set` them again",
            )
        ]
    if old:
        return [warning("secrets", f"{old} secrets are under a key of SECRET_KEY_OLD", "run `billing-proxy upstreams rotate-secrets`")]
    return [ok("secrets", "SECRET_KEY reads all secrets of upstreams")]


def _reads(vault: Vault, secret: bytes) -> bool:
    try:
        vault.decrypt(secret)
    except ProxyError:
        return False
    return True


def prices(snapshot: Snapshot, *, allow_unpriced: bool) -> Iterator[Finding]:
    routed = sorted(name for name in snapshot.named if snapshot.price(name) is None)
    if routed and allow_unpriced:
        yield warning("prices", f"served free of charge (ALLOW_UNPRICED), without a price: {_few(routed)}", "set their prices")
    elif routed:
        yield wrong(
            "prices",
            f"served, but refused for want of a price: {_few(routed)}",
            "`prices set MODEL input=... output=...`, or `prices sync`",
        )
    unrouted = sorted(name for name in snapshot.prices if not snapshot.routes(name))
    if unrouted:
        yield warning("prices", f"priced, but served by no upstream: {_few(unrouted)}", "add them to an upstream, if they are to be called")
    if not routed and not unrouted:
        yield ok("prices", f"every model with a price has a route ({len(snapshot.prices)})")


async def upstreams(
    database: Database, *, vault: Vault, catalog: Catalog, enabled: Sequence[UpstreamRoutes], allow_link_local: bool
) -> list[Finding]:
    """Whether each can be reached, and takes its secret."""
    if not enabled:
        return [warning("upstreams", "there is no upstream that serves", "`upstreams add NAME BASE_URL`")]
    turns = asyncio.Semaphore(AT_ONCE)

    async def ask(upstream: UpstreamRoutes) -> Finding:
        async with turns:
            try:
                offered = await offered_models(
                    database, vault=vault, upstream_id=upstream.id, snapshot=catalog.snapshot, allow_link_local=allow_link_local
                )
            except ProxyError as failed:
                return _failure(upstream, failed)
            return ok("upstreams", f"{upstream.name!r} answers, and offers {len(offered)} models")

    return list(await asyncio.gather(*map(ask, enabled)))


def _failure(upstream: UpstreamRoutes, failed: ProxyError) -> Finding:
    name = f"{upstream.name!r} at {upstream.base_url}"
    if refused := _REFUSED.search(str(failed)):
        return wrong("upstreams", f"{name} refuses its secret ({refused[1]})", f"`upstreams set {upstream.id} --api-key-stdin`")
    if _NO_LIST.search(str(failed)):
        return ok("upstreams", f"{name} answers, and has no list of models by which its secret could be tried")
    if isinstance(failed, UpstreamTimeout) or failed.code == "upstream_unreachable":
        return wrong("upstreams", f"{name}: {failed}", f"check its address: `upstreams set {upstream.id} --base-url ...`")
    return warning("upstreams", f"{name}: {failed}", f"if it gives no list, try `upstreams test {upstream.id}`")


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
