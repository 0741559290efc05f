"""`billing-proxy prices`: list them, set one, and bring them up to the public list prices.

What `sync` would change is shown before anything is written. Exit code 0: done, or nothing to do; 1: refused or declined,
with the reason in one line on standard error.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.prompt import Confirm
from rich.table import Table
from sqlalchemy.exc import DBAPIError

from app.catalog import checks, price_sync
from app.catalog.price_sync import Factor, Plan, PriceChange, flat
from app.catalog.prices import list_prices, set_price, superseded_by
from app.cli.database import database_beside_proxy
from app.database import Database, said
from app.errors import StartupError, UnacceptableValue
from app.models import ModelPrice
from app.settings import Settings

cli = typer.Typer(add_completion=False, no_args_is_help=True, help="What calls cost.")

SHOWN = 60
"""Models whose rates are listed; JSON has all."""
PAGE = 500
Pattern = Annotated[str, typer.Option("--model", help="One model, or all whose names begin so: `gpt-4o*`.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@dataclass(frozen=True, slots=True)
class Sync:
    """What was asked for on the command line."""

    providers: Sequence[str]
    pattern: str
    prefix: str
    rate: str | None
    markup: str | None
    overwrite: bool
    yes: bool
    dry_run: bool
    as_json: bool


@cli.command("sync")
def sync_command(
    provider: Annotated[
        list[str] | None, typer.Option(help="Of this provider, all that it has; may be repeated. Default: what your upstreams serve.")
    ] = None,
    model: Pattern = "*",
    prefix: Annotated[str, typer.Option(help="Put before the catalogue's names, as in `openai/` for a relay.")] = "",
    rate: Annotated[str | None, typer.Option(help="What a US dollar costs in CURRENCY.")] = None,
    markup: Annotated[str | None, typer.Option(help="Multiplies all rates: 1.2 adds a fifth.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Also prices and limits that an operator has set.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Apply without asking.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Seed and refresh prices and context sizes from the public list prices of the installed catalogue, genai-prices."""
    asked = Sync(provider or [], model, prefix, rate, markup, overwrite, yes, dry_run, as_json)
    raise typer.Exit(sync(Settings.load(), asked))


@cli.command("list")
def list_command(model: Pattern = "*", as_json: AsJson = False) -> None:
    """List the prices that are in force now."""
    show(Settings.load(), pattern=model, as_json=as_json)


@cli.command("set")
def set_command(
    model: Annotated[str, typer.Argument(help="Its name, as clients call it.")],
    rates: Annotated[list[str], typer.Argument(metavar="METER=RATE...", help="Such as input=0.15 output=0.6.")],
) -> None:
    """Set a model's price, from now on."""
    set_one(Settings.load(), model=model, rates=rates)


def sync(settings: Settings, asked: Sync) -> int:
    """Returns the exit code. Raises `ProxyError` and `StartupError`."""
    factor = Factor.parse(rate=asked.rate, markup=asked.markup, currency=settings.currency)
    checks.pattern("--model", asked.pattern)
    providers = price_sync.known(asked.providers)
    console = Console(highlight=False)
    if not (asked.yes or asked.dry_run) and (asked.as_json or not console.is_terminal):
        raise UnacceptableValue("nobody can be asked here: say --yes to apply what is found, or --dry-run to see it only")
    with database_beside_proxy(settings) as url:
        return asyncio.run(_sync(url, asked, providers, factor, console))


async def _sync(url: str, asked: Sync, providers: Sequence[str], factor: Factor, console: Console) -> int:
    async with _opened(url) as database:
        with _working("Comparing prices"):
            async with database.reading() as session:
                of_upstreams = await price_sync.served(session)
                prices = price_sync.wanted(of_upstreams, providers, prefix=asked.prefix, pattern=asked.pattern, factor=factor)
                plan = await price_sync.plan(session, prices, source=factor.source, overwrite=asked.overwrite)
        used = list(providers) or [one.provider for one in of_upstreams]
        if not used:
            raise UnacceptableValue("no upstream is at an address that the catalogue knows; name a provider, as in --provider openai")
        if not asked.as_json:
            _show(plan, used, asked, console)
        applies = not asked.dry_run and not plan.is_empty and (asked.yes or Confirm.ask("Apply this?", default=False, console=console))
        if applies:
            with _working("Writing prices"):
                async with database.transaction() as session:
                    await price_sync.apply(session, plan, prices, overwrite=asked.overwrite)
        if asked.as_json:
            print(json.dumps({"providers": used, "applied": applies} | _counts(plan) | asdict(plan), default=str, indent=2))  # noqa: T201
        else:
            console.print("Applied." if applies else "Nothing was changed.")
    return 0 if applies or asked.dry_run or plan.is_empty else 1


def show(settings: Settings, *, pattern: str, as_json: bool) -> None:
    """What is in force now."""
    checks.pattern("--model", pattern)
    with database_beside_proxy(settings) as url:
        prices = [price for price in asyncio.run(_in_force(url)) if price_sync.fits(price.model_name, pattern)]
    if as_json:
        print(json.dumps([_as_json(price) for price in prices], indent=2))  # noqa: T201 (without rich: lines stay whole)
        return
    table = _table("Model", "Rates", "Source", "Since (UTC)")
    for price in prices:
        rates = ", ".join(f"{name} {rate:f}" for name, rate in flat(_as_json(price)).items())
        table.add_row(escape(price.model_name), escape(rates), escape(price.source), f"{price.effective_from:%Y-%m-%d %H:%M}")
    none = "There are no prices" + (": `prices set` and `prices sync` make some." if pattern == "*" else f" of {escape(pattern)}.")
    Console(highlight=False).print(table if prices else none)


def set_one(settings: Settings, *, model: str, rates: Sequence[str]) -> None:
    """`rates`: `meter=rate`. Raises `ProxyError`."""
    given = [rate.partition("=") for rate in rates]
    if wrong := next((meter for meter, equals, _ in given if not equals), None):
        raise UnacceptableValue(f"{wrong!r}: give each rate as METER=RATE, such as input=0.15")
    meters = [meter.strip() for meter, _, _ in given]
    if doubled := next((meter for meter in meters if meters.count(meter) > 1), None):
        raise UnacceptableValue(f"{doubled}: give one rate only")
    with database_beside_proxy(settings) as url:
        gone = asyncio.run(_set(url, model, {meter.strip(): rate.strip() for meter, _, rate in given}))
    Console(highlight=False).print(f"{escape(model)} has a new price.{gone}")


async def _set(url: str, model: str, rates: dict[str, str]) -> str:
    """What the price before had, and this one can't have."""
    async with _opened(url) as database, database.transaction() as session:
        before = await superseded_by(session, await set_price(session, model_name=model, rates=rates, tiers=None, effective_from=None))
    held = () if before is None else (("tiers", before.tiers), ("service tiers", before.service_tiers))
    lost = [name for name, table in held if table]
    return f" The {' and '.join(lost)} of the one before hold no more: REST and the dashboard set those." if lost else ""


async def _in_force(url: str) -> list[ModelPrice]:
    found: list[ModelPrice] = []
    async with _opened(url) as database, database.reading() as session:
        cursor = None
        while True:
            page = await list_prices(session, limit=PAGE, cursor=cursor)
            found += page.rows
            if (cursor := page.next_cursor) is None:
                return found


@contextlib.asynccontextmanager
async def _opened(url: str) -> AsyncIterator[Database]:
    database = Database(url, pool_size=1)
    try:
        yield database
    except DBAPIError as error:
        raise StartupError(f"prices can't be read: {said(error)}; run `billing-proxy migrate` if that was never done") from error
    finally:
        await database.close()


def _working(what: str) -> Progress:
    console = Console(stderr=True)
    bar = Progress(SpinnerColumn(), TextColumn(what), TimeElapsedColumn(), console=console, transient=True, disable=not console.is_terminal)
    bar.add_task("", total=None)
    return bar


def _show(plan: Plan, providers: Sequence[str], asked: Sync, console: Console) -> None:
    whose = "as asked for" if asked.providers else "of the upstreams that there are"
    console.print(f"List prices of {', '.join(providers)} ({whose}), {plan.source}.", soft_wrap=True)
    changes = sorted((*plan.prices, *plan.kept), key=lambda change: change.state == "new")
    if changes:
        console.print(_differences(changes[:SHOWN]))
    if len(changes) > SHOWN:
        console.print(f"and {len(changes) - SHOWN:,} more models; --json lists them all")
    for limit in [limit for limit in plan.limits if limit.old is not None]:
        console.print(f"{escape(limit.model)}: context {limit.old:,} -> {limit.context_tokens:,} tokens", soft_wrap=True)
    counts = _counts(plan)
    console.print(
        f"{counts['new']:,} new, {counts['changed']:,} changed, {plan.same:,} the same, {len(plan.kept):,} set by the operator and left "
        f"alone; context sizes: {len(plan.limits):,}.",
        soft_wrap=True,
    )


def _differences(changes: Sequence[PriceChange]) -> Table:
    table = _table("Model", "", "Meter", "Old", "New")
    for change in changes:
        old, new = flat(change.old) if change.old else {}, flat(change.new)
        model: str = escape(change.model)
        state: str = "left alone" if change.state == "operator" else change.state
        for name in (name for name in {**new, **old} if old.get(name) != new.get(name)):
            table.add_row(model, state, escape(name), _rate(old.get(name)), _rate(new.get(name)))
            model = state = ""
    return table


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, justify="right" if column in ("Old", "New") else "left", overflow="fold")
    return table


def _rate(rate: Decimal | None) -> str:
    return "-" if rate is None else f"{rate:f}"


def _counts(plan: Plan) -> dict[str, int]:
    return {state: sum(change.state == state for change in plan.prices) for state in ("new", "changed")}


def _as_json(price: ModelPrice) -> dict[str, object]:
    return {
        "model": price.model_name,
        "rates": price.rates,
        "tiers": price.tiers,
        "service_tiers": price.service_tiers,
        "source": price.source,
        "effective_from": price.effective_from.isoformat(),
    }
