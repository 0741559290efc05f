"""`billing-proxy import`: users, keys and prices of LiteLLM or new-api, from their tables as CSV or JSON.

Everything is done in one transaction, which `--dry-run` takes back: what it shows is what would be done.
"""

import csv
import json
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer

from app.catalog import from_litellm, from_new_api
from app.catalog.moving import Change, Fault, Moving, refuse, take_over
from app.catalog.price_sync import positive
from app.cli.database import on_database
from app.cli.options import AsJson, offering, one_of
from app.cli.output import note, print_json, print_table, record
from app.database import Database
from app.errors import UnacceptableValue
from app.settings import Settings

cli = typer.Typer(add_completion=False)

Source = Literal["litellm", "new-api"]
SOURCES = get_args(Source)
Rows = list[tuple[str, Mapping[str, Any]]]
_File = Path | None


class _TakenBackError(Exception):
    """Ends the transaction of a dry run."""


@cli.command("import")
def import_command(
    source: Annotated[
        Any,
        typer.Argument(
            parser=one_of(*SOURCES), autocompletion=offering(*SOURCES), metavar="SOURCE", help="Whose files they are: litellm or new-api."
        ),
    ],
    users: Annotated[_File, typer.Option(help="LiteLLM_UserTable, or new-api's users: CSV with column names, or JSON.")] = None,
    keys: Annotated[_File, typer.Option(help="LiteLLM_VerificationToken, or new-api's tokens.")] = None,
    prices: Annotated[_File, typer.Option(help="LiteLLM's model prices or /model/info in JSON, or new-api's options.")] = None,
    rate: Annotated[str | None, typer.Option(metavar="RATE", help="What a US dollar costs in CURRENCY.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take over users, keys and prices of LiteLLM or new-api. What is here already stays as it is."""
    settings = Settings.load()
    if not (users or keys or prices):
        raise UnacceptableValue("name a file at least: --users, --keys or --prices")
    if rate is None and settings.currency != "USD":
        raise UnacceptableValue(f"their money is in US dollars: say what one costs in {settings.currency}, as in --rate 7.1")
    moving = read(source, users, keys, prices, rate=positive("--rate", rate) or Decimal(1))
    changes: list[Change] = []

    async def work(database: Database) -> None:
        try:
            async with database.transaction() as session:
                changes.extend(await take_over(session, moving, source=source))
                if dry_run:
                    raise _TakenBackError
        except _TakenBackError:
            pass

    on_database(settings, work)
    if as_json:
        print_json([record(change) for change in changes])
    else:
        rows = [(change.kind, change.name, change.state, change.what, change.notes) for change in changes]
        print_table(("What", "Which", "State", "As", "Note"), rows, empty="There is nothing in these files.")
    note("Nothing was changed." if dry_run else "Done.")


def read(source: Source, users: _File, keys: _File, prices: _File, *, rate: Decimal) -> Moving:
    """Raises `UnacceptableValue` with each record at fault."""
    faults: list[Fault] = []
    module = from_litellm if source == "litellm" else from_new_api
    found_users = module.users(_rows(users), faults, rate=rate) if users else []
    found_keys = module.keys(_rows(keys), faults, rate=rate) if keys else []
    found_prices = module.prices(_rows(prices), faults, rate=rate) if prices else []
    if source == "litellm":
        found_users += from_litellm.owners(found_keys, found_users)
    refuse(faults)
    return Moving(tuple(found_users), tuple(found_keys), tuple(found_prices))


def _rows(path: Path) -> Rows:
    """Each with its place, for those who have to mend it."""
    try:
        text = path.read_text("utf-8-sig")
    except OSError as unreadable:
        raise UnacceptableValue(f"{path} can't be read: {unreadable.strerror}") from unreadable
    except UnicodeError as unreadable:
        raise UnacceptableValue(f"{path} is no UTF-8 text: export it again, as UTF-8") from unreadable
    if path.suffix.lower() == ".json":
        return [(f"{path.name}, {where}", row) for where, row in _records(path, text)]
    lines = csv.DictReader(text.splitlines(keepends=True))
    try:
        return [(f"{path.name}, line {lines.line_num}", row) for row in lines]
    except csv.Error as wrong:
        raise UnacceptableValue(f"{path}, line {lines.line_num}: is no CSV: {wrong}") from None


def _records(path: Path, text: str) -> Rows:
    """A list of objects, the `data` of an answer, or an object of objects by their names."""
    try:
        read = json.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError):
        raise UnacceptableValue(f"{path} is no valid JSON") from None
    rows = read.get("data", read) if isinstance(read, dict) else read
    if isinstance(rows, dict):
        rows = [{"model_name": name, **row} for name, row in rows.items() if isinstance(row, dict) and name != "sample_spec"]
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UnacceptableValue(f"{path}: must be a list of objects, one for each row of the table")
    return [(f"row {number}", row) for number, row in enumerate(rows, 1)]
