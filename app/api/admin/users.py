"""`/admin/users`."""

from typing import Annotated

from pydantic import MISSING, Field

from app.api.admin.keys import Count, Group, PeriodLimit
from app.api.admin.shapes import PageOf, admin_router
from app.api.dependencies import ServicesOf
from app.api.fields import Answer, Cursor, Limit, Moment, Money, MoneyIn, Request, Search, UserId
from app.api.problems import documented
from app.catalog.users import LIMITS, create_user, get_user, list_users, update_user

router = admin_router("/users", tag="Users and credit")

CreditLimit = Annotated[
    MoneyIn,
    Field(
        description="How far the account may go below zero; 0 is prepaid. At most 4 decimals.",
        examples=["0"],
    ),
]


class NewUser(Request):
    id: str = Field(min_length=1, max_length=50, description="Printable; unique; the platform's own id for the user.", examples=["alice"])
    name: str | None = Field(default=None, min_length=1, max_length=255, examples=["Alice"])
    credit_limit: CreditLimit = Field(default="0", validate_default=True)
    group: Group | None = Field(default=None, description="Whose prices, models and limits hold for the user.")
    rpm: Count | None = Field(default=None, description="Requests a minute, of all keys together. null: the group's.")
    tpm: Count | None = Field(default=None, description="Tokens a minute.")
    max_concurrency: Count | None = Field(default=None, description="Calls in flight.")
    daily_limit: PeriodLimit | None = None
    monthly_limit: PeriodLimit | None = None


class UserChanges(Request):
    """Absent: unchanged."""

    name: Annotated[str, Field(min_length=1, max_length=255, examples=["Alice L."])] | MISSING | None = MISSING
    credit_limit: CreditLimit | MISSING = MISSING
    group: Group | MISSING | None = MISSING
    rpm: Count | MISSING | None = MISSING
    tpm: Count | MISSING | None = MISSING
    max_concurrency: Count | MISSING | None = MISSING
    daily_limit: PeriodLimit | MISSING | None = MISSING
    monthly_limit: PeriodLimit | MISSING | None = MISSING
    disabled: Annotated[bool, Field(description="New calls of a disabled user are refused.", examples=[False])] | MISSING = MISSING


class UserAnswer(Answer):
    id: str = Field(examples=["alice"])
    name: str | None = Field(examples=["Alice"])
    credit: Money = Field(description="All that was paid in.", examples=["10.0000"])
    credit_limit: Money = Field(description="How far the account may go below zero.", examples=["0.0000"])
    billed: Money = Field(description="The bills of all calls.", examples=["0.4000"])
    spent: Money = Field(description="The exact charges of all calls.", examples=["0.4000120000"])
    held: Money = Field(description="The ceilings of calls in flight.", examples=["0.0000000000"])
    available: Money = Field(description="credit + credit_limit - spent - held", examples=["9.5999880000"])
    written_off: Money = Field(description="Cost that nobody pays.", examples=["0.0000000000"])
    group: str | None = Field(examples=["vip"])
    rpm: int | None = Field(description="The user's own limits; null: the group's, if it has any.")
    tpm: int | None
    max_concurrency: int | None
    daily_limit: Money | None = Field(examples=["5.0000000000"])
    monthly_limit: Money | None = Field(examples=["50.0000000000"])
    disabled: bool
    disabled_at: Moment | None
    account_opened_at: Moment | None = Field(
        description="None: a user of the platform without an account yet. It opens on first use, with the money shown here."
    )


@router.post("", status_code=201, summary="Create a user with an account", responses=documented(409))
async def create(services: ServicesOf, body: NewUser) -> UserAnswer:
    """The account opens with `DEFAULT_CREDIT`. An id that exists is refused with 409."""
    async with services.changing_callers() as session:
        user = await create_user(
            session,
            user_id=body.id,
            name=body.name,
            credit_limit=body.credit_limit,
            policy=body.model_dump(include={"group", *LIMITS}),
            default_credit=services.settings.default_credit,
        )
    return UserAnswer.model_validate(user)


@router.get("", summary="List users")
async def list_all(services: ServicesOf, q: Search = None, limit: Limit = 100, cursor: Cursor = None) -> PageOf[UserAnswer]:
    """By id, ascending; disabled users too."""
    async with services.database.reading() as session:
        page = await list_users(session, q=q, default_credit=services.settings.default_credit, limit=limit, cursor=cursor)
    return PageOf[UserAnswer].of(page)


@router.get("/{user_id:path}", summary="Show a user with balance and use", responses=documented(404))
async def show(services: ServicesOf, user_id: UserId) -> UserAnswer:
    async with services.database.reading() as session:
        user = await get_user(session, user_id=user_id, default_credit=services.settings.default_credit)
    return UserAnswer.model_validate(user)


@router.patch("/{user_id:path}", summary="Change a user", responses=documented(404, 409))
async def change(services: ServicesOf, user_id: UserId, body: UserChanges) -> UserAnswer:
    """`"disabled": false` brings a deleted user back."""
    async with services.changing_callers() as session:
        user = await update_user(session, user_id=user_id, changes=body.model_dump(), default_credit=services.settings.default_credit)
    return UserAnswer.model_validate(user)


@router.delete("/{user_id:path}", summary="Disable a user", responses=documented(404))
async def disable(services: ServicesOf, user_id: UserId) -> UserAnswer:
    """New calls are refused at once, calls in flight are settled. Nothing is erased: rows, credit and keys stay."""
    async with services.changing_callers() as session:
        user = await update_user(session, user_id=user_id, changes={"disabled": True}, default_credit=services.settings.default_credit)
    return UserAnswer.model_validate(user)
