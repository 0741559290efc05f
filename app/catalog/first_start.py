"""What a new installation finds: the demo, and the providers whose keys are in the environment.

The demo is made once, on an empty embedded database: a user with credit, its key, and the local model `demo-echo` with
a price. Its upstream is known by its address, as an operator may give the name `demo` to another. `remove_demo` takes it
away for good, but for the user and the rows: books stay.
"""

import os
from collections.abc import Mapping, Sequence
from decimal import Decimal

from sqlalchemy import Select, delete, exists, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.catalog.addresses import join_url
from app.catalog.keys import create_key
from app.catalog.prices import set_price
from app.catalog.providers import PROVIDERS, Provider
from app.catalog.upstreams import LARGEST_PRIORITY, create_upstream, update_upstream
from app.catalog.users import create_user, update_user
from app.catalog.vault import Vault
from app.ledger.audit_entries import record, record_all
from app.ledger.credits import add_credit
from app.models import Model, ModelPrice, ModelRoute, Upstream, User
from app.runtime.demo_model import MODEL, PATH

DEMO = "demo"
DEMO_CREDIT = Decimal(10)
DEMO_RATES = {"input": "100", "output": "200"}
EVERY_MODEL = "*"
TURN = 0x61696764
"""The advisory lock of a process that adds providers. `alembic/env.py` has another."""


async def is_empty(session: AsyncSession) -> bool:
    """Whether nobody has defined anything yet."""
    return not (await session.execute(select(exists(select(User.id)) | exists(select(Upstream.id))))).scalar_one()


async def make_demo(session: AsyncSession, *, vault: Vault, base_url: str, secret: str) -> str:
    """Returns the demo user's key, which nobody can read again."""
    await create_user(session, user_id=DEMO, name="Demo", credit_limit=Decimal(0), default_credit=Decimal(0))
    await add_credit(session, user_id=DEMO, amount=DEMO_CREDIT, note="demo credit", idempotency_key=None, default_credit=Decimal(0))
    _, key = await create_key(session, user_id=DEMO, name="demo", policy={})
    await create_upstream(session, vault=vault, name=DEMO, base_url=base_url, api_key=secret, is_local=True, models=[MODEL])
    await set_price(session, model_name=MODEL, rates=DEMO_RATES, tiers=None, effective_from=None)
    return key


async def move_demo(session: AsyncSession, *, vault: Vault, base_url: str, secret: str) -> bool:
    """Points the demo's upstream at where its model listens now. Returns whether the demo is still there."""
    upstream_id = (await session.scalars(_demo().where(Upstream.disabled_at.is_(None)))).first()
    if upstream_id is None:
        return False
    await update_upstream(session, vault=vault, upstream_id=upstream_id, changes={"base_url": base_url, "api_key": secret})
    return True


async def remove_demo(session: AsyncSession) -> bool:
    """Takes away the demo's upstream, its model and price where no other upstream names that model, and disables its user.
    Returns whether there was a demo."""
    upstream_id = (await session.scalars(_demo())).first()
    if upstream_id is None:
        return False
    await session.execute(delete(Upstream).where(Upstream.id == upstream_id))
    await record(session, "upstream.delete", "upstream", upstream_id, before={"models": [MODEL]}, after=None)
    if not (await session.execute(select(exists().where(ModelRoute.pattern == MODEL)))).scalar_one():
        await session.execute(delete(Model).where(Model.name == MODEL))
        await session.execute(delete(ModelPrice).where(ModelPrice.model_name == MODEL))
        await record(session, "model.delete", "model", MODEL, before={"name": MODEL}, after=None)
    if await session.get(User, DEMO):
        await update_user(session, user_id=DEMO, changes={"disabled": True}, default_credit=Decimal(0))
    return True


def _demo() -> Select[int]:
    return select(Upstream.id).where(Upstream.is_local, Upstream.base_url.endswith(PATH)).order_by(Upstream.id)


async def add_providers(session: AsyncSession, *, vault: Vault, currency: str, environment: Mapping[str, str] = os.environ) -> list[str]:
    """Adds an upstream for each provider whose key is in the environment, unless there is one by its name or at its
    address, disabled ones too; with list prices where the currency is theirs. Returns the names added.

    One serves every model where no other upstream does, the others their own names; each comes after all routes that there
    are. Replicas that start together on one database take turns, until their transactions end."""
    present = [provider for provider in PROVIDERS if _key(provider, environment)]
    if not present:
        return []
    await session.execute(select(func.pg_advisory_xact_lock(TURN)))
    missing = await _without_upstream(session, present)
    priority = await _next_priority(session)
    serves_every = await _serves_every_model(session)
    for provider in missing:
        await create_upstream(
            session,
            vault=vault,
            name=provider.name,
            base_url=provider.base_url,
            api_key=_key(provider, environment),
            models=list(provider.models) if serves_every else [EVERY_MODEL],
            priority=min(priority, LARGEST_PRIORITY),
        )
        if currency == "USD" and provider.catalogue:
            await _seed_prices(session, provider.catalogue)
        priority, serves_every = priority + 1, True
    return [provider.name for provider in missing]


def _key(provider: Provider, environment: Mapping[str, str]) -> str | None:
    return environment.get(provider.variable) if provider.variable else None


async def _without_upstream(session: AsyncSession, providers: Sequence[Provider]) -> list[Provider]:
    """An operator may have renamed a provider's upstream, or written its address in another form."""
    upstreams = (await session.execute(select(Upstream.name, Upstream.base_url))).all()
    names = {upstream.name for upstream in upstreams}
    targets = {_target(upstream.base_url) for upstream in upstreams}
    return [provider for provider in providers if provider.name not in names and _target(provider.base_url) not in targets]


def _target(base_url: str) -> str:
    """Where calls go, which is the same for all forms of one address."""
    return join_url(base_url, "/v1/models").lower()


async def _next_priority(session: AsyncSession) -> int:
    last = (await session.execute(select(func.max(ModelRoute.priority)))).scalar_one()
    return 0 if last is None else last + 1


async def _serves_every_model(session: AsyncSession) -> bool:
    routes = select(ModelRoute.id).join(Upstream, Upstream.id == ModelRoute.upstream_id)
    query = select(exists(routes.where(ModelRoute.pattern == EVERY_MODEL, Upstream.disabled_at.is_(None))))
    return (await session.execute(query)).scalar_one()


async def _seed_prices(session: AsyncSession, catalogue: str) -> None:
    """Never supersedes a price that is there."""
    from app.catalog.price_catalogue import SOURCE, list_prices  # noqa: PLC0415 (a tenth of a second that few starts need)

    priced = set((await session.scalars(select(ModelPrice.model_name).distinct())).all())
    rows = [
        {
            "model_name": price.model_name,
            "rates": price.rates,
            "tiers": price.tiers,
            "service_tiers": price.service_tiers,
            "source": SOURCE,
        }
        for price in {price.model_name: price for price in list_prices(catalogue)}.values()
        if price.model_name not in priced
    ]
    if rows:
        await session.execute(insert(ModelPrice), rows)
        told = ("rates", "tiers", "service_tiers", "source")
        seeded = [(row["model_name"], None, {name: row[name] for name in told}) for row in rows]
        await record_all(session, "price.set", "price", seeded)
