"""`/admin/upstreams`."""

from typing import Annotated, Any, Literal

from pydantic import MISSING, Field

from app.api.admin.shapes import PageOf, admin_router
from app.api.dependencies import ServicesOf
from app.api.fields import Answer, Cursor, Limit, Moment, NumericId, Request
from app.api.problems import documented
from app.catalog.model_routes import MOST_MODELS
from app.catalog.offered import offered_models
from app.catalog.probe import probe_upstream
from app.catalog.providers import PROVIDERS
from app.catalog.upstreams import UpstreamRoutes, create_upstream, get_upstream, list_upstreams, update_upstream

router = admin_router("/upstreams", tag="Upstreams")

Name = Annotated[str, Field(min_length=1, max_length=100, description="Unique.", examples=["openai"])]
BaseUrl = Annotated[
    str,
    Field(
        max_length=2000,
        description="As SDKs take it (`https://host/openai/v1`), or the bare host. No credentials, query or fragment.",
        examples=["https://api.openai.com/v1"],
    ),
]
ApiKey = Annotated[str, Field(min_length=1, max_length=4096, description="Stored encrypted, never shown.", examples=["sk-proj-…"])]
Auth = Annotated[
    Literal["auto", "bearer", "x-api-key", "api-key", "none"],
    Field(description="The header that carries the secret; `auto`: what the protocol of a call uses.", examples=["auto"]),
]
IsLocal = Annotated[bool, Field(description="Written on the rows of its calls.", examples=[False])]
StreamUsage = Annotated[
    Literal["inject", "native", "off"],
    Field(
        description="How a stream's usage is had: asked for and taken out again, sent by itself, or not at all.",
        examples=["inject"],
    ),
]
ClientGone = Annotated[
    Literal["cancel", "drain"],
    Field(
        description="What becomes of a stream whose client leaves: cancelled upstream, and billed as delivered; or, where the "
        "upstream bills it regardless, read to its end and billed by its own usage.",
        examples=["cancel"],
    ),
]
Models = Annotated[
    Annotated[list[str], Field(min_length=1, max_length=MOST_MODELS)]
    | Annotated[dict[str, str | None], Field(min_length=1, max_length=MOST_MODELS)],
    Field(
        description="Names, and prefixes that end in `*`, that go on as they came; or an object: the name that clients use, "
        "and the upstream's own.",
        examples=[["*"], ["gpt-4o", "openai/*"], {"gpt-4o": "gpt-4o-2024-11-20"}],
    ),
]
ApiKeys = Annotated[
    list[ApiKey],
    Field(
        max_length=50,
        description="More secrets of the same account, used in turn with `api_key`; one that is refused is set aside for a minute.",
        examples=[["sk-proj-…"]],
    ),
]
Protocols = Annotated[
    list[Literal["openai", "anthropic", "gemini"]],
    Field(min_length=1, description="What it speaks; null: any. Calls of others don't go there.", examples=[["openai"]]),
]
Tags = Annotated[list[str], Field(max_length=20, description="By which groups choose among upstreams.", examples=[["premium"]])]
FirstByteWithin = Annotated[
    float,
    Field(
        gt=0,
        le=3600,
        allow_inf_nan=False,
        description="Seconds after which a call that got nothing from it, streamed or not, goes to another upstream, where one could "
        "serve; null: `FIRST_BYTE_WAIT` for streams, and no limit for others, which may think for long.",
        examples=[15],
    ),
]
Priority = Annotated[int, Field(ge=0, le=1000, description="Lower is tried first.", examples=[0])]
Weight = Annotated[int, Field(ge=1, le=1000, description="The share among upstreams of equal priority.", examples=[1])]


class NewUpstream(Request):
    name: Name
    base_url: BaseUrl
    models: Models
    api_key: ApiKey | None = None
    api_keys: ApiKeys | None = None
    auth: Auth = "auto"
    is_local: IsLocal = False
    stream_usage: StreamUsage = "inject"
    client_gone: ClientGone = "cancel"
    tags: Tags | None = None
    protocols: Protocols | None = None
    first_byte_within: FirstByteWithin | None = None
    priority: Priority = 0
    weight: Weight = 1


class UpstreamChanges(Request):
    """Absent: unchanged. `"api_key": null` forgets the secret; `models` replaces all of them."""

    name: Name | MISSING = MISSING
    base_url: BaseUrl | MISSING = MISSING
    models: Models | MISSING = MISSING
    api_key: ApiKey | MISSING | None = MISSING
    api_keys: ApiKeys | MISSING | None = MISSING
    auth: Auth | MISSING = MISSING
    is_local: IsLocal | MISSING = MISSING
    stream_usage: StreamUsage | MISSING = MISSING
    client_gone: ClientGone | MISSING = MISSING
    tags: Tags | MISSING | None = MISSING
    protocols: Protocols | MISSING | None = MISSING
    first_byte_within: FirstByteWithin | MISSING | None = MISSING
    priority: Priority | MISSING = MISSING
    weight: Weight | MISSING = MISSING
    disabled: Annotated[bool, Field(examples=[False])] | MISSING = MISSING


class UpstreamAnswer(Answer):
    id: int = Field(examples=[1])
    name: str = Field(examples=["openai"])
    base_url: str = Field(examples=["https://api.openai.com/v1"])
    auth: str = Field(examples=["auto"])
    has_api_key: bool
    api_key_hint: str | None = Field(description="The last four characters of the secret, unless it is short.", examples=["4Xq9"])
    api_key_hints: list[str | None] = Field(description="Of all its secrets, `api_key` first.", examples=[["4Xq9"]])
    is_local: bool
    stream_usage: str = Field(examples=["inject"])
    client_gone: str = Field(examples=["cancel"])
    models: list[str] | dict[str, str] = Field(examples=[["*"], {"gpt-4o": "gpt-4o-2024-11-20"}])
    tags: list[str] | None = Field(examples=[["premium"]])
    protocols: list[str] | None = Field(examples=[["openai"]])
    first_byte_within: float | None = Field(examples=[15])
    priority: int = Field(examples=[0])
    weight: int = Field(examples=[1])
    disabled: bool
    disabled_at: Moment | None
    created_at: Moment
    health: Literal["closed", "open", "half_open"] = Field(
        default="closed", description="Of its circuit breaker, as this process sees it.", examples=["closed"]
    )


class Probe(Request):
    model: str | None = Field(
        default=None,
        min_length=1,
        max_length=255,
        description="As clients call it; by default the first that the upstream serves by name.",
        examples=["gpt-4o-mini"],
    )


class ProbeAnswer(Answer):
    ok: bool
    model: str = Field(description="As the upstream was asked for it.", examples=["gpt-4o-mini"])
    status: int | None = Field(description="The HTTP status; null where there was no answer.", examples=[200])
    latency_ms: int = Field(examples=[412])
    usage: dict[str, Any] | None = Field(description="As the upstream reports it.", examples=[{"prompt_tokens": 9, "completion_tokens": 3}])
    error: str | None = Field(examples=[None])


class OfferedModel(Answer):
    id: str = Field(description="As the upstream calls it.", examples=["gpt-4o-2024-11-20"])
    name: str | None = Field(description="As clients call it; null: this upstream serves it under no name.", examples=["gpt-4o"])
    has_price: bool


class Preset(Answer):
    """What `POST /admin/upstreams` takes, beside `title` and `probe`."""

    name: str = Field(examples=["openai"])
    title: str = Field(examples=["OpenAI"])
    base_url: str = Field(examples=["https://api.openai.com/v1"])
    models: list[str] = Field(examples=[["gpt-*"]])
    protocols: list[str] | None = Field(examples=[["openai"]])
    auth: str = Field(examples=["auto"])
    is_local: bool
    probe: str | None = Field(description="A small model, for a test call.", examples=["gpt-4o-mini"])


class Presets(Answer):
    data: list[Preset]


class OfferedModels(Answer):
    data: list[OfferedModel]


def _shown(services: ServicesOf, upstream: UpstreamRoutes) -> UpstreamAnswer:
    answer = UpstreamAnswer.model_validate(upstream)
    answer.health = services.gateway.failover.breakers.state(upstream.id)
    return answer


@router.post("", status_code=201, summary="Create an upstream with its routes", responses=documented(409))
async def create(services: ServicesOf, body: NewUpstream) -> UpstreamAnswer:
    """Models named without `*` get a row in `model`; a wildcard serves whatever has a price."""
    async with services.changing_catalog() as session:
        upstream = await create_upstream(
            session, vault=services.vault, allow_link_local=services.settings.allow_link_local_upstreams, **body.model_dump()
        )
    return _shown(services, upstream)


@router.get("", summary="List upstreams")
async def list_all(services: ServicesOf, limit: Limit = 100, cursor: Cursor = None) -> PageOf[UpstreamAnswer]:
    """By id, ascending; disabled ones too."""
    async with services.database.reading() as session:
        page = await list_upstreams(session, limit=limit, cursor=cursor)
    return PageOf[UpstreamAnswer](data=[_shown(services, upstream) for upstream in page.rows], next_cursor=page.next_cursor)


@router.get("/presets", summary="List providers that are known by name")
async def list_presets() -> Presets:
    return Presets(data=[Preset.model_validate(provider) for provider in PROVIDERS])


@router.get("/{upstream_id}", summary="Show an upstream", responses=documented(404))
async def show(services: ServicesOf, upstream_id: NumericId) -> UpstreamAnswer:
    async with services.database.reading() as session:
        return _shown(services, await get_upstream(session, upstream_id=upstream_id))


@router.patch("/{upstream_id}", summary="Change an upstream", responses=documented(404, 409))
async def change(services: ServicesOf, upstream_id: NumericId, body: UpstreamChanges) -> UpstreamAnswer:
    """`"disabled": false` brings a deleted upstream back, with its routes and its secret."""
    async with services.changing_catalog() as session:
        upstream = await update_upstream(
            session,
            vault=services.vault,
            upstream_id=upstream_id,
            changes=body.model_dump(),
            allow_link_local=services.settings.allow_link_local_upstreams,
        )
    return _shown(services, upstream)


@router.delete("/{upstream_id}", summary="Disable an upstream", responses=documented(404))
async def disable(services: ServicesOf, upstream_id: NumericId) -> UpstreamAnswer:
    """It serves no new calls; calls in flight end as they do. The row stays, since logs refer to it, and its name stays taken."""
    async with services.changing_catalog() as session:
        upstream = await update_upstream(session, vault=services.vault, upstream_id=upstream_id, changes={"disabled": True})
    return _shown(services, upstream)


@router.post("/{upstream_id}/test", summary="Make a small real call to an upstream", responses=documented(404, 502))
async def probe(services: ServicesOf, upstream_id: NumericId, body: Probe | None = None) -> ProbeAnswer:
    """A chat call of at most 16 output tokens, 30 seconds at most; billed by the upstream, to nobody here. What went wrong is in
    `error`, and the status of this answer is 200 all the same. 502: the stored secret can't be read."""
    model = body.model if body else None
    result = await probe_upstream(
        services.database,
        vault=services.vault,
        upstream_id=upstream_id,
        model=model,
        allow_link_local=services.settings.allow_link_local_upstreams,
    )
    return ProbeAnswer.model_validate(result)


@router.get("/{upstream_id}/models", summary="List what an upstream offers", responses=documented(404, 502, 504))
async def offered(services: ServicesOf, upstream_id: NumericId) -> OfferedModels:
    """Asks the upstream, 30 seconds at most. A model without a price can't be called."""
    found = await offered_models(
        services.database,
        vault=services.vault,
        upstream_id=upstream_id,
        snapshot=services.catalog.snapshot,
        allow_link_local=services.settings.allow_link_local_upstreams,
    )
    return OfferedModels(data=[OfferedModel.model_validate(model) for model in found])
