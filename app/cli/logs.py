"""`billing-proxy logs`: find a call, explain its bill, watch calls end."""

import asyncio
import json
import sys
from contextlib import suppress
from decimal import Decimal
from typing import Annotated, Any

import typer
from rich.console import Console

from app.cli.archive import archive_logs
from app.cli.database import on_database, pages
from app.cli.options import AsJson, Limit, day, directory, moment, offering, one_of
from app.cli.output import cell, is_ascii, json_value, note, print_json, print_record, print_table
from app.database import Database
from app.reports.calls import EVERYTHING, STORED_AT, Call, CallFilters, PageAsked, get_call, list_calls
from app.reports.following import MOST_BEFORE, Following
from app.settings import Settings

cli = typer.Typer(add_completion=False, no_args_is_help=True, help="The calls that were made.")

User = Annotated[str | None, typer.Option(help="Only this user's.")]
KeyId = Annotated[int | None, typer.Option("--key", min=1, max=2**31 - 1, help="Only those made with the key of this id.")]
ModelName = Annotated[str | None, typer.Option("--model", help="As the client called it.")]
Status = Annotated[
    Any,
    typer.Option(
        parser=one_of("success", "failed"),
        autocompletion=offering("success", "failed"),
        metavar="success|failed",
        help="Only those that ended so.",
    ),
]
Upstream = Annotated[int | None, typer.Option("--upstream", min=1, max=2**31 - 1, help="Only those of the upstream of this id.")]
EndUser = Annotated[str | None, typer.Option(help="As the client named its own user.")]
Since = Annotated[Any, typer.Option("--from", parser=moment, metavar="TIME", help="Not before; UTC, as in 2030-01-31T12:00.")]
Until = Annotated[Any, typer.Option("--to", parser=moment, metavar="TIME", help="Before.")]
COLUMNS = ("Id", "When (UTC)", "User", "Model", "In", "Out", "Bill", "Status")


@cli.command("list")
def list_(
    user: User = None,
    key: KeyId = None,
    model: ModelName = None,
    status: Status = None,
    upstream: Upstream = None,
    end_user: EndUser = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List calls, the newest first. All that is given must fit."""
    settings = Settings.load()
    filters = CallFilters(
        user_id=user,
        api_key_id=key,
        model_name=model,
        status=status,
        upstream_id=upstream,
        end_user=end_user,
        created_from=since,
        created_to=until,
    )

    async def work(database: Database) -> tuple[list[Call], bool]:
        async with database.reading() as session:
            return await pages(
                lambda size, cursor: list_calls(
                    session,
                    PageAsked(visibility=EVERYTHING, filters=filters, zone=settings.log_time_zone, limit=size, cursor=cursor),
                ),
                limit=limit,
            )

    calls, more = on_database(settings, work)
    if as_json:
        print_json([_shown(call) for call in calls])
    else:
        print_table(COLUMNS, map(_row, calls), empty="No calls fit that." if filters != CallFilters() else "There are no calls yet.")
    if more:
        note("There are more: --limit shows them.")


@cli.command()
def show(
    call_id: Annotated[str, typer.Argument(metavar="CALL", help="Its id, or the X-Request-ID of its answer.")], as_json: AsJson = False
) -> None:
    """Show one call in full, with the price that applied and how its bill adds up."""
    settings = Settings.load()

    async def work(database: Database) -> Call:
        async with database.reading() as session:
            return await get_call(session, visibility=EVERYTHING, call_id=call_id, zone=settings.log_time_zone)

    print_record(_shown(on_database(settings, work)), as_json=as_json)


@cli.command()
def tail(
    user: User = None,
    key: KeyId = None,
    model: ModelName = None,
    status: Status = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=MOST_BEFORE, help="How many of the last calls are shown first.")] = 10,
    every: Annotated[float, typer.Option(min=0.1, max=3600, metavar="SECONDS", help="Between two looks.")] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON for each call.")] = False,
) -> None:
    """Show calls as they end, until Ctrl-C. None is missed, none is shown twice. They are in the order of time: while another program
    is in the middle of writing to the call log, later calls wait for it."""
    settings = Settings.load()
    following = Following(CallFilters(user_id=user, api_key_id=key, model_name=model, status=status), settings.log_time_zone)

    async def work(database: Database) -> None:
        async with database.reading() as session:
            _print(await following.begin(session, last=lines), as_json=as_json)
        while True:
            await asyncio.sleep(every)
            async with database.reading() as session:
                _print(await following.look(session), as_json=as_json)

    with suppress(KeyboardInterrupt):
        on_database(settings, work)


def _print(calls: list[Call], *, as_json: bool) -> None:
    console = Console(highlight=False)
    for call in calls:
        if as_json:
            sys.stdout.write(json.dumps(_shown(call), default=json_value, ensure_ascii=is_ascii()) + "\n")
        else:
            _, when, user, model, read, written, bill, status = map(cell, _row(call))
            console.print(f"{when}  {user}  {model}  {read} in, {written} out  {bill}  {status}", soft_wrap=True)
    sys.stdout.flush()


def _shown(call: Call) -> dict[str, Any]:
    return {name: value for name, value in call.items() if name != STORED_AT}


def _row(call: Call) -> tuple[object, ...]:
    bill: Decimal = call["bill"]
    ended = call["status"] if call["end_reason"] in (None, "completed") else f"{call['status']}: {call['end_reason']}"
    tokens = call["input_tokens"], call["output_tokens"]
    return call["id"], call["created_at"], call["user_id"], call["model_name"], *tokens, f"{bill:f}", ended


@cli.command()
def archive(
    before: Annotated[Any, typer.Option(parser=day, metavar="YYYY-MM-DD", help="Rows of calls before this day, in LOG_TIME_ZONE.")],
    to: Annotated[Any, typer.Option(parser=directory, metavar="DIRECTORY", help="The directory for the files.")],
) -> None:
    """Move old rows to files (NDJSON, zstd), also while the proxy runs. Sums, balances and statements stay as they are; the rows
    are in `/logs` no more, and can't be refunded. What is younger than 30 days stays. Ctrl-C stops it; said again, it goes on."""
    raise typer.Exit(archive_logs(Settings.load(), before=before, directory=to))
