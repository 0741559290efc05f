"""A first start on nothing but a directory: the demo answers, its secrets are private, and the next start finds all."""

import asyncio
import signal
import stat
import subprocess
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from sqlalchemy import text

from app.catalog.first_start import add_providers
from app.catalog.vault import Vault
from app.database import Database as Engine
from tests.harness.books import wait_until
from tests.harness.installation import Installation
from tests.harness.postgres import Database, Databases
from tests.harness.proxy import free_port, refuses


def test_the_demo_answers_and_its_row_shows_the_bill(installation: Installation) -> None:
    installation.start(is_fresh=True)
    assert installation.call().json()["choices"][0]["message"]["content"] == "Hello there"
    [row] = installation.rows()
    shown = {name: row[name] for name in ("user_id", "input_tokens", "output_tokens", "bill", "is_local", "request_ip", "status")}
    assert shown == {
        "user_id": "demo",
        "input_tokens": 2,
        "output_tokens": 2,
        "bill": "0.0006",
        "is_local": True,
        "request_ip": "127.0.0.1",
        "status": "success",
    }


def test_the_next_start_finds_all_as_it_was(installation: Installation) -> None:
    installation.start()
    installation.call()
    before, secrets = installation.rows(), installation.secrets()
    assert installation.stop() == 0
    installation.port = free_port()
    installation.environment["PORT"] = str(installation.port)
    installation.http.base_url = f"http://127.0.0.1:{installation.port}"
    installation.start()
    assert (installation.rows(), installation.secrets()) == (before, secrets)
    assert installation.call().status_code == 200, "the demo model moved with the port"


def test_secrets_are_private_and_not_printed(installation: Installation) -> None:
    printed = installation.start()
    secrets_file = installation.directory / ".data/secrets.env"
    assert stat.S_IMODE(secrets_file.stat().st_mode) == 0o600
    assert not [name for name, value in installation.secrets().items() if value in printed]
    installation.stop()
    secrets_file.chmod(0o644)
    refused = installation.run("serve")
    assert refused.returncode == 1
    assert "chmod 600" in refused.stderr


def test_a_second_start_says_who_is_running(started_before: Installation) -> None:
    started_before.start()
    assert started_before.process is not None
    refused = started_before.run("serve", PORT=str(free_port()))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"pid {started_before.process.pid}" in refused.stderr
    assert "is in use" in started_before.run("serve").stderr.lower().replace("already in use", "is in use")


def test_the_next_start_finds_the_port_of_a_killed_parent_free(started_before: Installation) -> None:
    started_before.environment["WORKERS"] = "2"
    started_before.start()
    wait_until(lambda: started_before.call().status_code == 200, what="an answer")
    assert started_before.process is not None
    started_before.process.kill()
    started_before.process.wait(10)
    wait_until(lambda: refuses(started_before.port), what="the port is given back")
    started_before.start()
    assert started_before.stop() == 0


def test_a_provider_in_the_environment_becomes_an_upstream_with_list_prices(installation: Installation) -> None:
    installation.environment["OPENAI_API_KEY"] = "sk-of-the-operator-0123456789"
    printed = installation.start()
    assert "sk-of-the-operator" not in printed
    admin = installation.operator()
    upstreams = {upstream["name"]: upstream for upstream in installation.http.get("/admin/upstreams", headers=admin).json()["data"]}
    assert (upstreams["openai"]["models"], upstreams["openai"]["has_api_key"]) == (["*"], True)
    [price] = installation.http.get("/admin/prices/gpt-4o", headers=admin).json()["data"]
    assert set(price["rates"]) >= {"input", "output", "cache_read"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_leaves_no_process(started_before: Installation, number: int) -> None:
    started_before.start(is_fresh=True)
    assert started_before.stop(number) == 0
    left = subprocess.run(["/usr/bin/pgrep", "-f", str(started_before.directory)], capture_output=True, text=True, check=False)
    assert left.stdout == ""


class TestProviders:
    """What a start makes of the keys in its environment, in a database of its own."""

    @pytest.fixture
    def db(self, databases: Databases) -> Iterator[Database]:
        with databases.fresh() as database:
            yield database

    @pytest_asyncio.fixture
    async def engine(self, db: Database) -> AsyncIterator[Engine]:
        engine = Engine(db.url, pool_size=3)
        yield engine
        await engine.close()

    async def start(self, engine: Engine, *names: str) -> list[str]:
        async with engine.transaction() as session:
            return await add_providers(
                session, vault=Vault("a secret key of the tests"), currency="EUR", environment={f"{name}_API_KEY": "sk-0" for name in names}
            )

    def routes(self, db: Database) -> dict[str, tuple[list[str], set[int]]]:
        """Of each upstream, its patterns and priorities."""
        rows = db.fetch("""SELECT name, array_agg(pattern ORDER BY pattern) AS patterns, array_agg(priority) AS priorities
            FROM aigcspace.upstream JOIN aigcspace.model_route ON upstream_id = upstream.id GROUP BY name""")
        return {row["name"]: (row["patterns"], set(row["priorities"])) for row in rows}

    async def test_of_several_at_once_the_first_serves_every_model(self, engine: Engine, db: Database) -> None:
        assert await self.start(engine, "DEEPSEEK", "XAI") == ["deepseek", "xai"]
        assert self.routes(db) == {"deepseek": (["*"], {0}), "xai": (["grok-*"], {1})}

    async def test_one_of_a_later_start_serves_its_own_models_after_all_others(self, engine: Engine, db: Database) -> None:
        await self.start(engine, "DEEPSEEK")
        db.execute("UPDATE aigcspace.model_route SET priority = 4")

        assert await self.start(engine, "DEEPSEEK", "OPENAI", "OPENROUTER") == ["openai", "openrouter"]

        routes = self.routes(db)
        assert routes["deepseek"] == (["*"], {4})
        assert (routes["openai"][1], routes["openrouter"][1]) == ({5}, {6})
        assert "gpt-*" in routes["openai"][0]
        assert "*" not in routes["openai"][0] + routes["openrouter"][0]

    async def test_a_disabled_upstream_serves_no_model(self, engine: Engine, db: Database) -> None:
        await self.start(engine, "DEEPSEEK")
        db.execute("UPDATE aigcspace.upstream SET disabled_at = now()")

        assert await self.start(engine, "DEEPSEEK", "XAI") == ["xai"]
        assert self.routes(db)["xai"] == (["*"], {1})

    @pytest.mark.parametrize("base_url", ["https://api.openai.com/v1", "https://api.openai.com", "https://API.openai.com/v1/"])
    async def test_one_that_was_renamed_is_known_by_its_address(self, engine: Engine, db: Database, base_url: str) -> None:
        db.execute("INSERT INTO aigcspace.upstream (name, base_url) VALUES ('ours', $1)", base_url)
        assert await self.start(engine, "OPENAI") == []

    async def test_one_whose_address_was_changed_is_known_by_its_name(self, engine: Engine, db: Database) -> None:
        db.execute("INSERT INTO aigcspace.upstream (name, base_url) VALUES ('openai', 'https://gateway.example/v1')")
        assert await self.start(engine, "OPENAI") == []

    async def test_two_replicas_start_together(self, engine: Engine, db: Database) -> None:
        async with engine.transaction() as session:
            environment = {"OPENAI_API_KEY": "sk-0"}
            first = await add_providers(session, vault=Vault("a secret key of the tests"), currency="EUR", environment=environment)
            second = asyncio.create_task(self.start(engine, "OPENAI", "XAI"))
            await self.someone_waits_for_a_lock(engine)

        assert (first, await second) == (["openai"], ["xai"])
        assert self.routes(db) == {"openai": (["*"], {0}), "xai": (["grok-*"], {1})}

    async def someone_waits_for_a_lock(self, engine: Engine) -> None:
        waiting = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
        async with asyncio.timeout(10):
            while True:
                async with engine.reading() as session:
                    if (await session.execute(waiting)).scalar_one():
                        return
                await asyncio.sleep(0.01)
