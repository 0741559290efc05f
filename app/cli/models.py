"""`billing-proxy models`."""

from typing import Annotated

import typer

from app.catalog.models import get_model, list_models, set_limits, update_limits
from app.cli.database import on_database, pages
from app.cli.options import AsJson, Limit, Tokens, given
from app.cli.output import note, print_json, print_record, print_table, record
from app.database import Database
from app.errors import NotFound
from app.models import Model
from app.settings import Settings

cli = typer.Typer(add_completion=False, no_args_is_help=True, help="Limits of models.")

ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="Its name, as clients call it.")]


@cli.command("list")
def list_(limit: Limit = 100, as_json: AsJson = False) -> None:
    """List the models that upstreams name, and those that were given limits."""

    async def work(database: Database) -> tuple[list[Model], bool]:
        async with database.reading() as session:
            return await pages(lambda size, cursor: list_models(session, limit=size, cursor=cursor), limit=limit)

    models, more = on_database(Settings.load(), work)
    if as_json:
        print_json([record(model) for model in models])
    else:
        rows = [(model.name, model.context_tokens, model.max_output_tokens) for model in models]
        print_table(("Model", "Context", "Output"), rows, empty="There are no models by name: upstreams name them, and `models set`.")
    if more:
        note("There are more: --limit shows them.")


@cli.command()
def show(model: ModelName, as_json: AsJson = False) -> None:
    """Show a model's limits."""

    async def work(database: Database) -> Model:
        async with database.reading() as session:
            return await get_model(session, name=model)

    print_record(on_database(Settings.load(), work), as_json=as_json)


@cli.command("set")
def set_(model: ModelName, context_tokens: Tokens = None, max_output_tokens: Tokens = None, as_json: AsJson = False) -> None:
    """Set the limits that bound what a call may cost. What isn't named stays; `none`: unknown."""
    changes = given(context_tokens=context_tokens, max_output_tokens=max_output_tokens)
    if not changes:
        raise typer.BadParameter("name --context-tokens, --max-output-tokens or both")

    async def work(database: Database) -> Model:
        async with database.transaction() as session:
            try:
                return await update_limits(session, name=model, changes=changes)
            except NotFound:
                return await set_limits(session, name=model, **{"context_tokens": None, "max_output_tokens": None, **changes})

    print_record(on_database(Settings.load(), work), as_json=as_json)
