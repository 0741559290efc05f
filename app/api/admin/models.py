"""`/admin/models`."""

from typing import Annotated

from pydantic import MISSING, Field

from app.api.admin.shapes import PageOf, admin_router
from app.api.dependencies import ServicesOf
from app.api.fields import LARGEST_INTEGER, Answer, Cursor, Limit, ModelName, Moment, Request, Search
from app.api.problems import documented
from app.catalog.models import get_model, list_models, set_limits, update_limits

router = admin_router("/models", tag="Model limits")

ContextTokens = Annotated[
    int,
    Field(ge=1, le=LARGEST_INTEGER, strict=True, description="The most that its input can be; null: unknown.", examples=[128000]),
]
MaxOutputTokens = Annotated[
    int,
    Field(
        ge=1,
        le=LARGEST_INTEGER,
        strict=True,
        description="The most that it answers; null: unknown. Held for calls that set no limit of their own.",
        examples=[16384],
    ),
]


class Limits(Request):
    context_tokens: ContextTokens | None = None
    max_output_tokens: MaxOutputTokens | None = None


class LimitChanges(Request):
    """Absent: unchanged."""

    context_tokens: ContextTokens | MISSING | None = MISSING
    max_output_tokens: MaxOutputTokens | MISSING | None = MISSING


class ModelAnswer(Answer):
    id: int = Field(examples=[1])
    name: str = Field(examples=["openai/gpt-oss-120b"])
    context_tokens: int | None = Field(examples=[128000])
    max_output_tokens: int | None = Field(examples=[16384])
    created_at: Moment


@router.put("/{model:path}", summary="Set a model's limits", responses=documented(404))
async def put(services: ServicesOf, model: ModelName, body: Limits) -> ModelAnswer:
    """Both of them; one that is left out is unknown from then on. The model is made where there is none."""
    async with services.changing_catalog() as session:
        changed = await set_limits(session, name=model, **body.model_dump())
    return ModelAnswer.model_validate(changed)


@router.get("", summary="List models with their limits")
async def list_all(services: ServicesOf, q: Search = None, limit: Limit = 100, cursor: Cursor = None) -> PageOf[ModelAnswer]:
    """By name: those that upstreams name, and those that were given limits."""
    async with services.database.reading() as session:
        page = await list_models(session, q=q, limit=limit, cursor=cursor)
    return PageOf[ModelAnswer].of(page)


@router.get("/{model:path}", summary="Show a model's limits", responses=documented(404))
async def show(services: ServicesOf, model: ModelName) -> ModelAnswer:
    async with services.database.reading() as session:
        return ModelAnswer.model_validate(await get_model(session, name=model))


@router.patch("/{model:path}", summary="Change a model's limits", responses=documented(404))
async def change(services: ServicesOf, model: ModelName, body: LimitChanges) -> ModelAnswer:
    async with services.changing_catalog() as session:
        changed = await update_limits(session, name=model, changes=body.model_dump())
    return ModelAnswer.model_validate(changed)
