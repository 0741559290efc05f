"""What a new installation finds: the demo, and the providers whose keys are in the environment.

The demo is made once, on an empty embedded database: a user with credit, its key, and the local model `demo-echo` with
a price. Its upstream is known by its address, as an operator may give the name `demo` to another. `remove_demo` takes it
away for good, but for the user and the rows: books stay.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import Select, delete, exists, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.catalog.keys import create_key
from app.catalog.prices import set_price
from app.catalog.upstreams import create_upstream, update_upstream
from app.catalog.users import create_user
from app.catalog.vault import Vault
from app.ledger.accounts import set_disabled
from app.ledger.credits import add_credit
from app.models import Model, ModelPrice, ModelRoute, Upstream, User
from app.runtime.demo_model import MODEL, PATH

DEMO = "demo"
DEMO_CREDIT = Decimal(10)
DEMO_RATES = {"input": "100", "output": "200"}


@dataclass(frozen=True, slots=True)
class Provider:
    """`catalogue`: its name in the price catalogue. `models`: served where it isn't the only provider."""

    name: str
    variable: str
    base_url: str
    catalogue: str
    models: tuple[str, ...]


PROVIDERS = (
    Provider("openai", "OPENAI_API_KEY", "https://api.openai.com/v1", "openai", ("*",)),
    Provider("deepseek", "DEEPSEEK_API_KEY", "https://api.deepseek.com", "deepseek", ("deepseek-*",)),
    Provider(
        "mistral",
        "MISTRAL_API_KEY",
        "https://api.mistral.ai/v1",
        "mistral",
        ("mistral-*", "ministral-*", "magistral-*", "codestral-*", "pixtral-*"),
    ),
    Provider("xai", "XAI_API_KEY", "https://api.x.ai/v1", "x-ai", ("grok-*",)),
    Provider("moonshot", "MOONSHOT_API_KEY", "https://api.moonshot.ai/v1", "moonshotai", ("kimi-*", "moonshot-*")),
    Provider("groq", "GROQ_API_KEY", "https://api.groq.com/openai/v1", "groq", ("llama-*", "groq/*")),
    Provider("openrouter", "OPENROUTER_API_KEY", "https://openrouter.ai/api/v1", "openrouter", ("*",)),
)


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
    if not (await session.execute(select(exists().where(ModelRoute.pattern == MODEL)))).scalar_one():
        await session.execute(delete(Model).where(Model.name == MODEL))
        await session.execute(delete(ModelPrice).where(ModelPrice.model_name == MODEL))
    if await session.get(User, DEMO):
        await set_disabled(session, user_id=DEMO, disabled=True, default_credit=Decimal(0))
    return True


def _demo() -> Select[int]:
    return select(Upstream.id).where(Upstream.is_local, Upstream.base_url.endswith(PATH)).order_by(Upstream.id)


async def add_providers(session: AsyncSession, *, vault: Vault, currency: str, environment: Mapping[str, str] = os.environ) -> list[str]:
    """Adds an upstream for each provider whose key is in the environment and that has none by its name, with list prices
    where the currency is theirs. The first serves every model, the others their own names. Returns the names added."""
    present = [provider for provider in PROVIDERS if environment.get(provider.variable)]
    known = set((await session.scalars(select(Upstream.name))).all())
    added = []
    for place, provider in enumerate(present):
        if provider.name in known:
            continue
        await create_upstream(
            session,
            vault=vault,
            name=provider.name,
            base_url=provider.base_url,
            api_key=environment[provider.variable],
            models=["*"] if place == 0 else list(provider.models),
            priority=place,
        )
        if currency == "USD":
            await _seed_prices(session, provider.catalogue)
        added.append(provider.name)
    return added


async def _seed_prices(session: AsyncSession, catalogue: str) -> None:
    """Never supersedes a price that is there."""
    from app.catalog.price_catalogue import SOURCE, list_prices  # noqa: PLC0415 (a tenth of a second that few starts need)

    priced = set((await session.scalars(select(ModelPrice.model_name).distinct())).all())
    rows = [
        {"model_name": price.model_name, "rates": price.rates, "tiers": price.tiers, "source": SOURCE}
        for price in {price.model_name: price for price in list_prices(catalogue)}.values()
        if price.model_name not in priced
    ]
    if rows:
        await session.execute(insert(ModelPrice), rows)
