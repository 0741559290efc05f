"""`/admin/codes`: batches of redemption codes."""

from typing import Annotated

from fastapi import Query
from pydantic import Field, WithJsonSchema

from app.api.admin.shapes import PageOf, admin_router
from app.api.dependencies import ServicesOf
from app.api.fields import Answer, Cursor, Limit, Moment, MomentIn, Money, MoneyIn, NumericId, Request, written_as
from app.api.problems import documented
from app.ledger.codes import MOST_CODES, BatchCount, list_batches, list_codes, make_codes, void_codes

router = admin_router("/codes", tag="Redemption codes")

_ENDING = "^[0-9A-Za-z]{4}$"
Ending = Annotated[
    str, written_as(_ENDING, "must be four letters or digits, as in 51ZP"), WithJsonSchema({"type": "string", "pattern": _ENDING})
]


class NewBatch(Request):
    amount: MoneyIn = Field(description="Of each code: greater than 0, at most 4 decimals.", examples=["10.00"])
    count: int = Field(ge=1, le=MOST_CODES, examples=[100])
    expires_at: MomentIn | None = Field(default=None, description="null: never.")
    note: str | None = Field(default=None, max_length=1000, description="Becomes that of the credit entries.", examples=["spring campaign"])


class BatchAnswer(Answer):
    """`made` codes are `open`, or what became of them."""

    id: int = Field(examples=[1])
    amount: Money = Field(examples=["10.0000"])
    note: str | None = Field(examples=["spring campaign"])
    expires_at: Moment | None
    voided_at: Moment | None
    created_at: Moment
    made: int = Field(examples=[100])
    open: int = Field(examples=[58])
    redeemed: int = Field(examples=[42])
    expired: int = Field(examples=[0])
    voided: int = Field(examples=[0])


class MadeBatch(Answer):
    id: int = Field(examples=[1])
    amount: Money = Field(examples=["10.0000"])
    note: str | None = Field(examples=["spring campaign"])
    expires_at: Moment | None
    created_at: Moment
    codes: list[str] = Field(description="Shown this once: only their hashes are kept.", examples=[["7K3M-Q9XD-2B4W-HT8E-51ZP"]])


class CodeAnswer(Answer):
    id: int = Field(examples=[1])
    batch_id: int = Field(examples=[1])
    ending: str = Field(description="The code's last four characters.", examples=["51ZP"])
    amount: Money = Field(examples=["10.0000"])
    state: str = Field(description="`open`, `redeemed`, `expired` or `voided`.", examples=["redeemed"])
    expires_at: Moment | None
    redeemed_at: Moment | None
    redeemed_by: str | None = Field(description="The user.", examples=["alice"])


@router.post("", status_code=201, summary="Make a batch of codes")
async def make(services: ServicesOf, body: NewBatch) -> MadeBatch:
    async with services.database.transaction() as session:
        batch, codes = await make_codes(session, amount=body.amount, count=body.count, expires_at=body.expires_at, note=body.note)
    shown = {name: getattr(batch, name) for name in MadeBatch.model_fields if name != "codes"}
    return MadeBatch(**shown, codes=codes)


@router.get("", summary="List batches")
async def list_all(services: ServicesOf, limit: Limit = 100, cursor: Cursor = None) -> PageOf[BatchAnswer]:
    """Newest first, with what became of their codes."""
    async with services.database.reading() as session:
        page = await list_batches(session, limit=limit, cursor=cursor)
    return PageOf[BatchAnswer](data=[_shown(counts) for counts in page.rows], next_cursor=page.next_cursor)


@router.get("/single", summary="Find single codes")
async def list_single(
    services: ServicesOf,
    ending: Annotated[Ending | None, Query(description="Their last four characters.", examples=["51ZP"])] = None,
    batch_id: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> PageOf[CodeAnswer]:
    """Newest first; those of one batch, those that end so, or all."""
    async with services.database.reading() as session:
        page = await list_codes(session, batch_id=batch_id, ending=ending, limit=limit, cursor=cursor)
    codes = [
        CodeAnswer(
            id=known.code.id,
            batch_id=known.batch.id,
            ending=known.code.ending,
            amount=known.batch.amount,
            state=known.state,
            expires_at=known.batch.expires_at,
            redeemed_at=known.code.redeemed_at,
            redeemed_by=known.code.redeemed_by,
        )
        for known in page.rows
    ]
    return PageOf[CodeAnswer](data=codes, next_cursor=page.next_cursor)


@router.delete("/{batch_id}", summary="Void the codes of a batch that are left", responses=documented(404))
async def void(services: ServicesOf, batch_id: NumericId) -> BatchAnswer:
    """What was redeemed stays so. Said again, it changes nothing."""
    async with services.database.transaction() as session:
        counts = await void_codes(session, batch_id=batch_id)
    return _shown(counts)


def _shown(counts: BatchCount) -> BatchAnswer:
    names = ("made", "open", "redeemed", "expired", "voided")
    of_batch = {name: getattr(counts.batch, name) for name in BatchAnswer.model_fields if name not in names}
    return BatchAnswer(**of_batch, **{name: getattr(counts, name) for name in names})
