"""`/admin/prices/preview`, `/export` and `/import`. Registered before `/admin/prices/{model}`, as models' names may be anything."""

from typing import Annotated

from fastapi import Body, Query, Response
from pydantic import Field

from app.api.admin.prices import Terms
from app.api.admin.shapes import admin_router
from app.api.dependencies import ServicesOf, require_operator
from app.api.fields import Answer, Moment, Money, Request
from app.billing.price import Price
from app.catalog.price_sheet import import_sheet, read_sheet, written_sheet
from app.catalog.prices import all_prices
from app.errors import UnacceptableValue
from app.reports.price_preview import Previewed, preview_prices

router = admin_router("/prices", tag="Prices")
reading_router = admin_router("/prices", tag="Prices", allows=require_operator)
BOM = "\ufeff"
SHEET = "A line for each rate: `model,effective_from,service_tier,above_input_tokens,meter,rate`; an empty `effective_from` is now."


class ProposedPrice(Terms):
    model: str = Field(min_length=1, max_length=255, examples=["openai/gpt-oss-120b"])

    def parsed(self) -> Price:
        try:
            return Price.parse(id=None, model_name=self.model, **self.written())
        except ValueError as invalid:
            raise UnacceptableValue(f"prices: {self.model}: {invalid}") from None


class Proposal(Request):
    prices: list[ProposedPrice] = Field(min_length=1, max_length=20)
    days: int = Field(default=30, ge=1, le=400, strict=True, examples=[30])


class PreviewAnswer(Answer):
    """`charged` and `would_be` are those of the `calls` that were counted."""

    model: str = Field(examples=["openai/gpt-oss-120b"])
    calls: int = Field(examples=[1200])
    charged: Money = Field(description="What they were charged.", examples=["12.3400000000"])
    would_be: Money = Field(description="What they would have cost.", examples=["15.0000000000"])
    difference: Money = Field(examples=["2.6600000000"])
    counted_from: Moment | None = Field(description="The time of the oldest call that was counted.")
    is_complete: bool = Field(description="Whether these are all calls of the period, or its newest.")


class Preview(Answer):
    data: list[PreviewAnswer]
    charged: Money
    would_be: Money
    difference: Money

    @classmethod
    def of(cls, found: list[Previewed]) -> "Preview":
        charged, would_be = sum(one.charged for one in found), sum(one.would_be for one in found)
        return cls.model_validate({"data": found, "charged": charged, "would_be": would_be, "difference": would_be - charged})


class SheetChangeAnswer(Answer):
    model: str = Field(examples=["openai/gpt-oss-120b"])
    effective_from: Moment | None = Field(description="null: from now on.")
    state: str = Field(description="`new`, or `changed` where another price holds at that time.", examples=["changed"])


class ImportAnswer(Answer):
    data: list[SheetChangeAnswer]
    same: int = Field(description="Prices that hold already, and were left alone.", examples=[12])
    written: bool = Field(description="false: this was a dry run.")


@reading_router.post("/preview", summary="Tell what other prices would have made of the last days")
async def preview(services: ServicesOf, body: Proposal) -> Preview:
    """From the rows' own counts and multipliers; writes nothing. The newest calls are counted first, 20,000 of all models together
    and for about five seconds: `is_complete` and `counted_from` say which."""
    prices = [price.parsed() for price in body.prices]
    async with services.database.reading() as session:
        return Preview.of(await preview_prices(session, prices, days=body.days, zone=services.settings.log_time_zone))


@router.get(
    "/export",
    summary="Take prices out as CSV",
    response_class=Response,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}, "description": SHEET}},
)
async def export(
    services: ServicesOf,
    history: Annotated[bool, Query(description="All that ever held or will hold.")] = False,
    bom: Annotated[bool, Query(description="Begin with a byte order mark, by which Excel knows UTF-8.")] = False,
) -> Response:
    """What is in force now. Cells that a spreadsheet would take for formulas begin with an apostrophe."""
    async with services.database.reading() as session:
        sheet = "".join(written_sheet(await all_prices(session, history=history)))
    headers = {"Content-Disposition": 'attachment; filename="prices.csv"'}
    return Response((BOM if bom else "") + sheet, headers=headers, media_type="text/csv; charset=utf-8")


@router.post("/import", summary="Put prices in from CSV")
async def import_(
    services: ServicesOf,
    sheet: Annotated[bytes, Body(media_type="text/csv", description=SHEET, examples=["model,meter,rate\ngpt-4o-mini,input,0.15\n"])],
    dry_run: Annotated[bool, Query(description="Tell what would change, and change nothing.")] = False,
) -> ImportAnswer:
    """All of them, or none: 422 names each line at fault. Prices that hold already are left alone."""
    read = read_sheet(sheet)
    async with services.changing_catalog() as session:
        imported = await import_sheet(session, read, dry_run=dry_run)
    return ImportAnswer.model_validate({"data": imported.changes, "same": imported.same, "written": not dry_run})
