"""A process that begins to answer has heard of what others changed until then, and hears of what they change from then on."""

from contextlib import AsyncExitStack
from pathlib import Path

from app.process import open_process
from app.settings import Settings
from tests.harness.postgres import Database
from tests.harness.proxy import ADMIN_TOKEN, SECRET_KEY

LISTENERS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE application_name = 'billing-proxy changes' AND datname = current_database() AND query LIKE 'LISTEN%'
"""


async def test_it_listens_before_it_answers(db: Database, tmp_path: Path) -> None:
    """Nothing of the process runs between its opening and the question: another moment would give it time to catch up."""
    settings = Settings.load(database_url=db.url, admin_token=ADMIN_TOKEN, secret_key=SECRET_KEY, data_dir=tmp_path)
    before = db.value(LISTENERS)
    async with AsyncExitStack() as stack:
        await open_process(stack, settings)

        assert db.value(LISTENERS) == before + 1
