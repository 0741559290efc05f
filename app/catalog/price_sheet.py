"""Prices as a spreadsheet, out and in: CSV, a line for each rate.

Lines of one model and one `effective_from` are one price. What comes in is taken as a whole or not at all, and each line at
fault is named. A price that says what holds at its time already is left out, so that a sheet that was taken out and put in
again changes nothing.

A cell that a spreadsheet would take for a formula has an apostrophe before it (`app/spreadsheet.py`), as has one that begins with
an apostrophe; one is taken away on the way in.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.billing.price import Price
from app.catalog.checks import FIRST_MOMENT, LAST_MOMENT
from app.catalog.price_sync import TURN, flat
from app.catalog.prices import set_price
from app.errors import ProxyError, UnacceptableValue
from app.models import ModelPrice
from app.spreadsheet import as_text

COLUMNS = ("model", "effective_from", "service_tier", "above_input_tokens", "meter", "rate")
NEEDED = ("model", "meter", "rate")
MOST_FAULTS = 100
MOST_PRICES = 5_000
Fault = tuple[str, str]


@dataclass(slots=True)
class SheetPrice:
    """`line`: where it begins. `effective_from` None: from now on."""

    line: int
    model: str
    effective_from: datetime | None
    rates: dict[str, str] = field(default_factory=dict)
    service_tiers: dict[str, dict[str, str]] = field(default_factory=dict)
    tiers: dict[int, dict[str, Any]] = field(default_factory=dict)

    def add(self, meter: str, rate: str, *, above: int | None, service_tier: str) -> None:
        """Raises `ValueError` for a rate that stands there already."""
        step = self.tiers.setdefault(above, {"above_input_tokens": above, "rates": {}, "service_tiers": {}}) if above else None
        plain, by_service = (self.rates, self.service_tiers) if step is None else (step["rates"], step["service_tiers"])
        rates = by_service.setdefault(service_tier, {}) if service_tier else plain
        if meter in rates:
            raise ValueError(f"has the rate of {meter} a second time")
        rates[meter] = rate

    def written(self) -> dict[str, Any]:
        """As `Price.as_written`. Raises `ValueError`."""
        return Price.parse(
            id=None, model_name=self.model, rates=self.rates, tiers=list(self.tiers.values()), service_tiers=self.service_tiers
        ).as_written()


@dataclass(frozen=True, slots=True)
class SheetChange:
    model: str
    effective_from: datetime | None
    state: Literal["new", "changed"]


@dataclass(frozen=True, slots=True)
class Imported:
    """`same`: prices that hold already."""

    changes: tuple[SheetChange, ...]
    same: int


def written_sheet(prices: Iterable[ModelPrice]) -> Iterator[str]:
    """Lines, the first of which names the columns."""
    yield _line(COLUMNS)
    for price in prices:
        begin = (price.model_name, price.effective_from.astimezone(UTC).isoformat())
        for service_tier, above, meter, rate in _rates_of(price):
            yield _line((*begin, service_tier, above, meter, rate))


def read_sheet(sheet: bytes) -> list[SheetPrice]:
    """Raises `UnacceptableValue` with each line at fault."""
    try:
        text = sheet.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UnacceptableValue("The sheet is not UTF-8 text. Save it as `CSV UTF-8`.", code="invalid_csv") from None
    lines = csv.reader(io.StringIO(text), strict=True)
    prices: dict[tuple[str, datetime | None], SheetPrice] = {}
    faults: list[Fault] = []
    try:
        names = [name.strip() for name in next(lines, [])]
        _check_header(names)
        for cells in lines:
            if any(cells):
                _take(prices, faults, lines.line_num, names, cells)
    except csv.Error as wrong:
        faults.append((f"line {lines.line_num}", f"is no CSV: {wrong}"))
    for price in prices.values():
        try:
            price.written()
        except ValueError as wrong:
            faults.append((f"line {price.line}", f"{price.model}: {wrong}"))
    if len(prices) > MOST_PRICES:
        faults.append((f"line {lines.line_num}", f"has a price too many: send at most {MOST_PRICES} at once"))
    _refuse(faults)
    return list(prices.values())


async def import_sheet(session: AsyncSession, sheet: Sequence[SheetPrice], *, dry_run: bool) -> Imported:
    """All of them, or none. `dry_run`: says what would change. Raises `UnacceptableValue` with each line at fault."""
    await session.execute(select(func.pg_advisory_xact_lock(TURN)))
    dated = await _dated(session, {price.model for price in sheet})
    now = (await session.execute(select(func.clock_timestamp()))).scalar_one()
    changes, faults, same = [], [], 0
    for price in sheet:
        at = price.effective_from or now
        holding = next((one for one in dated.get(price.model, ()) if one.effective_from <= at), None)
        if holding is not None and _is_same(holding, price):
            same += 1
            continue
        if holding is not None and holding.effective_from == at:
            faults.append((f"line {price.line}", f"{price.model}: has another price from that very time on; choose a later one"))
        changes.append((SheetChange(price.model, price.effective_from, "changed" if holding else "new"), price))
    _refuse(faults)
    if not dry_run:
        await _write(session, [price for _, price in changes])
    return Imported(tuple(change for change, _ in changes), same)


async def _write(session: AsyncSession, sheet: Sequence[SheetPrice]) -> None:
    faults = []
    for price in sheet:
        written = price.written()
        try:
            await set_price(
                session,
                model_name=price.model,
                rates=written["rates"],
                tiers=written.get("tiers"),
                effective_from=price.effective_from,
                service_tiers=written.get("service_tiers"),
            )
        except UnacceptableValue as wrong:
            faults.append((f"line {price.line}", str(wrong)))
        except ProxyError as wrong:  # the transaction can't go on
            _refuse([*faults, (f"line {price.line}", str(wrong))])
    _refuse(faults)


async def _dated(session: AsyncSession, models: set[str]) -> dict[str, list[ModelPrice]]:
    """The latest first."""
    query = select(ModelPrice).where(ModelPrice.model_name.in_(models)).order_by(ModelPrice.effective_from.desc())
    found: dict[str, list[ModelPrice]] = {}
    for price in (await session.scalars(query)).all():
        found.setdefault(price.model_name, []).append(price)
    return found


def _is_same(holding: ModelPrice, price: SheetPrice) -> bool:
    was = {"rates": holding.rates, "tiers": holding.tiers, "service_tiers": holding.service_tiers}
    return flat(was) == flat(price.written())


def _check_header(names: Sequence[str]) -> None:
    missing = [name for name in NEEDED if name not in names]
    unknown = [name for name in names if name not in COLUMNS]
    if missing or unknown or len(set(names)) < len(names):
        raise UnacceptableValue(
            f"The first line must name the columns, each once: {', '.join(COLUMNS)}; all but {', '.join(NEEDED)} may be left out.",
            code="invalid_csv",
        )


def _take(
    prices: dict[tuple[str, datetime | None], SheetPrice], faults: list[Fault], line: int, names: Sequence[str], cells: Sequence[str]
) -> None:
    if len(cells) != len(names):
        faults.append((f"line {line}", f"has {len(cells)} cells, and the first line names {len(names)} columns"))
        return
    cell = dict.fromkeys(COLUMNS, "") | {name: _unguarded(text.strip()) for name, text in zip(names, cells, strict=True)}
    try:
        effective_from, above = _moment(cell["effective_from"]), _tokens(cell["above_input_tokens"])
        price = prices.setdefault((cell["model"], effective_from), SheetPrice(line, _model(cell["model"]), effective_from))
        price.add(cell["meter"], cell["rate"], above=above, service_tier=cell["service_tier"])
    except ValueError as wrong:
        faults.append((f"line {line}", str(wrong)))


def _model(name: str) -> str:
    if not 1 <= len(name) <= 255 or not name.isprintable():
        raise ValueError("model: must be printable text of 1 to 255 characters")
    return name


def _moment(text: str) -> datetime | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("effective_from: must be a time as in 2030-01-01T00:00:00Z; empty is now") from None
    if not FIRST_MOMENT <= moment <= LAST_MOMENT:
        raise ValueError(f"effective_from: must lie from {FIRST_MOMENT:%Y-%m-%d} to {LAST_MOMENT:%Y-%m-%d}")
    return moment


def _tokens(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and 0 < int(text[:10]) < 2**31 and len(text) <= 10):
        raise ValueError("above_input_tokens: must be a number of tokens greater than 0, or empty")
    return int(text)


def _rates_of(price: ModelPrice) -> Iterator[tuple[str, str, str, str]]:
    """Service tier, tokens above which it holds, meter, rate."""
    yield from _tables(price.rates, price.service_tiers, "")
    for tier in price.tiers or ():
        yield from _tables(tier.get("rates") or {}, tier.get("service_tiers"), str(tier["above_input_tokens"]))


def _tables(rates: dict[str, str], service_tiers: dict[str, dict[str, str]] | None, above: str) -> Iterator[tuple[str, str, str, str]]:
    for service_tier, table in (("", rates), *(service_tiers or {}).items()):
        yield from ((service_tier, above, meter, rate) for meter, rate in table.items())


def _line(cells: Iterable[str]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow([f"'{cell}" if cell.startswith("'") else as_text(cell) for cell in cells])
    return line.getvalue()


def _unguarded(cell: str) -> str:
    return cell.removeprefix("'")


def _refuse(faults: Sequence[Fault]) -> None:
    if not faults:
        return
    first = f"{faults[0][0]}: {faults[0][1]}"
    said = f"{len(faults)} lines are at fault, as in {first}" if len(faults) > 1 else first
    raise UnacceptableValue(f"Nothing was changed: {said}.", code="invalid_csv", faults=faults[:MOST_FAULTS])
