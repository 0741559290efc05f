"""`billing-proxy upstreams`."""

import asyncio

from pydantic import SecretStr
from sqlalchemy.exc import DBAPIError

from app.catalog.secret_rotation import Rotated
from app.catalog.secret_rotation import rotate_secrets as rotate_in
from app.catalog.vault import Vault
from app.cli.database import database_beside_proxy
from app.database import Database, said
from app.errors import StartupError
from app.runtime.secrets_file import NAME, read_secrets
from app.settings import Settings


def rotate_secrets(settings: Settings) -> Rotated:
    """`SECRET_KEY` as set, else as the proxy has it from `DATA_DIR`. Raises `StartupError`, and `Conflict` as `catalog` does."""
    if settings.secret_key is None:
        kept = read_secrets(settings.data_dir).get("SECRET_KEY")
        if kept is None:
            raise StartupError(f"SECRET_KEY is not set, and {settings.data_dir / NAME} has none: set the one that the proxies have")
        settings = settings.model_copy(update={"secret_key": SecretStr(kept)})
    with database_beside_proxy(settings) as url:
        return asyncio.run(_rotate(url, Vault.of(settings)))


async def _rotate(url: str, vault: Vault) -> Rotated:
    database = Database(url, pool_size=1)
    try:
        async with database.transaction() as session:
            return await rotate_in(session, vault=vault)
    except DBAPIError as error:
        raise StartupError(f"can't read the upstreams: {said(error)}; run `billing-proxy migrate` if that was never done") from error
    finally:
        await database.close()
