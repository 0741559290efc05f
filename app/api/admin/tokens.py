"""`/admin/tokens`."""

from typing import Annotated, Literal

from pydantic import MISSING, Field

from app.api.admin.shapes import PageOf, admin_router
from app.api.dependencies import ServicesOf
from app.api.fields import Answer, Cursor, Limit, Moment, MomentIn, NumericId, Request
from app.api.problems import documented
from app.catalog.admin_tokens import create_token, get_token, list_tokens, update_token

router = admin_router("/tokens", tag="Operators")

Role = Annotated[Literal["admin", "viewer"], Field(description="A viewer reads everything, and changes nothing.", examples=["viewer"])]
ExpiresAt = Annotated[MomentIn, Field(description="ISO 8601; without a zone it is UTC.", examples=["2030-01-01T00:00:00Z"])]


class NewToken(Request):
    name: str = Field(min_length=1, max_length=100, description="Unique, for good: audit entries tell by it.", examples=["finance"])
    role: Role = "admin"
    expires_at: ExpiresAt | None = None


class TokenChanges(Request):
    """Absent: unchanged."""

    role: Role | MISSING = MISSING
    expires_at: ExpiresAt | MISSING | None = MISSING
    disabled: Annotated[bool, Field(examples=[False])] | MISSING = MISSING


class TokenAnswer(Answer):
    id: int = Field(examples=[1])
    name: str = Field(examples=["finance"])
    role: str = Field(examples=["viewer"])
    token_prefix: str = Field(description="The first characters of the token.", examples=["adm-Zk3v9Q"])
    expires_at: Moment | None
    disabled: bool
    disabled_at: Moment | None
    last_used_at: Moment | None = Field(description="Right to a minute.")
    created_at: Moment


class TokenWithSecret(TokenAnswer):
    token: str = Field(description="Shown this once: only its hash is kept.", examples=["adm-Zk3v9Qa7…"])


@router.post("", status_code=201, summary="Create a token for an operator", responses=documented(409))
async def create(services: ServicesOf, body: NewToken) -> TokenWithSecret:
    """The answer holds the token itself, which is shown this once. It is sent as `ADMIN_TOKEN` is."""
    async with services.database.transaction() as session:
        token, secret = await create_token(session, **body.model_dump())
    return TokenWithSecret(**TokenAnswer.model_validate(token).model_dump(mode="python"), token=secret)


@router.get("", summary="List operators' tokens")
async def list_all(services: ServicesOf, limit: Limit = 100, cursor: Cursor = None) -> PageOf[TokenAnswer]:
    """By id, ascending; disabled ones too. `ADMIN_TOKEN` is none of them."""
    async with services.database.reading() as session:
        return PageOf[TokenAnswer].of(await list_tokens(session, limit=limit, cursor=cursor))


@router.get("/{token_id}", summary="Show a token", responses=documented(404))
async def show(services: ServicesOf, token_id: NumericId) -> TokenAnswer:
    async with services.database.reading() as session:
        return TokenAnswer.model_validate(await get_token(session, token_id=token_id))


@router.patch("/{token_id}", summary="Change a token", responses=documented(404))
async def change(services: ServicesOf, token_id: NumericId, body: TokenChanges) -> TokenAnswer:
    """Holds from the token's next request on. `"disabled": false` brings a deleted token back."""
    async with services.database.transaction() as session:
        return TokenAnswer.model_validate(await update_token(session, token_id=token_id, changes=body.model_dump()))


@router.delete("/{token_id}", summary="Disable a token", responses=documented(404))
async def disable(services: ServicesOf, token_id: NumericId) -> TokenAnswer:
    """It is refused at its next request, at every replica."""
    async with services.database.transaction() as session:
        return TokenAnswer.model_validate(await update_token(session, token_id=token_id, changes={"disabled": True}))
