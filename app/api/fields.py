"""Types of fields that requests and answers share: money, moments, names, paging."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

from fastapi import Path, Query
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from app.billing.numbers import NUMBER
from app.catalog.checks import FIRST_MOMENT, LAST_MOMENT

LARGEST_INTEGER = 2**31 - 1
LARGEST_MONEY = 1_000_000_000
MOST_DECIMALS = 10


def _plain_number(value: Any) -> Any:
    if isinstance(value, bool) or (isinstance(value, str) and not NUMBER.fullmatch(value)):
        raise ValueError("must be a decimal string, such as 12.50, or a number")
    return value


def _storable(amount: Decimal) -> Decimal:
    if not -LARGEST_MONEY <= amount <= LARGEST_MONEY:  # arithmetic, even `abs`, overflows for exponents that Decimal can hold
        raise ValueError(f"must be from -{LARGEST_MONEY} to {LARGEST_MONEY}")
    if amount != round(amount, MOST_DECIMALS):
        raise ValueError(f"must have at most {MOST_DECIMALS} decimals")
    return amount or Decimal(0)  # a zero may have any exponent


def _in_utc(moment: datetime) -> datetime:
    """A moment without a zone is UTC. The bounds leave room for conversion into any zone."""
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    if not FIRST_MOMENT <= aware <= LAST_MOMENT:  # before it is converted, which overflows beyond
        raise ValueError(f"must lie from {FIRST_MOMENT:%Y-%m-%d} to {LAST_MOMENT:%Y-%m-%d}")
    return aware.astimezone(UTC)


def written_as(pattern: str, said: str) -> AfterValidator:
    """For text whose form the schema tells programs, and `said` people."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text, re.ASCII):
            raise ValueError(said)
        return text

    return AfterValidator(check)


def _no_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not contain a NUL character")
    return text


Money = Annotated[Decimal, PlainSerializer(lambda amount: f"{amount:f}", return_type=str)]
"""Answered as a decimal string, never as a float."""
MoneyIn = Annotated[Decimal, BeforeValidator(_plain_number, json_schema_input_type=str | float), AfterValidator(_storable)]
"""A decimal string; a JSON number is taken too."""
MomentIn = Annotated[datetime, AfterValidator(_in_utc)]
Moment = AwareDatetime
Rate = Annotated[str | int | float, BeforeValidator(_plain_number)]
Text = Annotated[str, Field(max_length=255), AfterValidator(_no_nul)]

UserId = Annotated[str, Path(min_length=1, max_length=50, description="The user's id.", examples=["alice"]), AfterValidator(_no_nul)]
NumericId = Annotated[int, Path(ge=1, le=LARGEST_INTEGER, examples=[1])]
ModelName = Annotated[str, Path(min_length=1, max_length=255, description="May hold slashes and colons.", examples=["openai/gpt-oss-120b"])]
Limit = Annotated[int, Query(ge=1, le=500, description="Rows on a page.")]
Cursor = Annotated[str | None, Query(max_length=1000, description="`next_cursor` of the page before. None: the first page.")]


Search = Annotated[Text | None, Query(min_length=1, description="Only what has this in its id or name, in any case.", examples=["ali"])]


class Request(BaseModel):
    """Unknown fields are refused, so that a misspelt one isn't silently ignored."""

    model_config = ConfigDict(extra="forbid")


class Answer(BaseModel):
    model_config = ConfigDict(from_attributes=True)
