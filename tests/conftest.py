"""Fixtures: one PostgreSQL a run, whatever the number of its processes; one migrated database and one proxy a module, or a
process where tests can share them (`tests/harness/standing.py`); one scene a test."""

import gc
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from app.main import COLLECT_AT
from tests.harness import scene as scenes_module
from tests.harness.admin import Admin
from tests.harness.background import Background
from tests.harness.books import books
from tests.harness.fault_books import assert_audit
from tests.harness.patience import wait_longer
from tests.harness.postgres import Database, Databases, server
from tests.harness.proxy import Proxy, running
from tests.harness.scene import Scene
from tests.harness.standing import standing
from tests.harness.tls import know_one_authority
from tests.standin import StandIn

_LINES_SHOWN, _LONGEST_LINE = 30, 3000
_CALL = '{"event":"call"'
_LONGEST = (
    "embedded/test_first_start", "schema/test_adoption", "faults/test_failover", "acceptance/test_recorded_exchanges", "ledger/test_audit",
    "acceptance/test_stopping", "embedded/test_embedded_postgres", "schema/test_migrations", "replicas/test_workers",
    "embedded/test_postgres_comes_back", "faults/test_alerts", "faults/test_database_hangs",
)  # fmt: skip
"""Modules that take longest. They begin first, so that no process is left alone with one at the end."""


_URL = pytest.StashKey[str]()


def pytest_configure() -> None:
    know_one_authority()
    wait_longer()
    gc.disable()  # while four thousand tests are collected, all that is made stays


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Before a process of several is started."""
    node.workerinput["server"] = server_of(node.config)


def server_of(config: pytest.Config) -> str:
    """The URL of the PostgreSQL that all processes of this run use. The first one to ask starts it."""
    if _URL not in config.stash:
        if hasattr(config, "workerinput"):
            config.stash[_URL] = config.workerinput["server"]
        else:
            started = ExitStack()
            config.stash[_URL] = started.enter_context(server())
            config.add_cleanup(started.close)
    return config.stash[_URL]


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()  # else each look for cycles goes through half a gigabyte of SDKs and tests
    gc.set_threshold(*COLLECT_AT)
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {f"tests/{module}.py": number for number, module in enumerate(_LONGEST)}
    items.sort(key=lambda item: place.get(item.nodeid.partition("::")[0], len(place)))


@pytest.fixture(scope="session")
def background() -> Iterator[Background]:
    loop = Background()
    yield loop
    loop.close()


@pytest.fixture(scope="session")
def databases(background: Background, request: pytest.FixtureRequest) -> Iterator[Databases]:
    made = Databases(background, server_of(request.config))
    yield made
    made.close()


@pytest.fixture(scope="session")
def standing_db(databases: Databases) -> Iterator[Database]:
    with databases.fresh() as database:
        yield database


@pytest.fixture(scope="session")
def standing_proxy(standing_db: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    yield from standing(standing_db, Proxy(database_url=standing_db.url, directory=tmp_path_factory.mktemp("standing")))


@pytest.fixture(scope="module")
def db(databases: Databases) -> Iterator[Database]:
    with databases.fresh() as database:
        yield database


@pytest.fixture(scope="module")
def proxies(db: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Proxy]]:
    """Starts proxies on the module's database; settings as keywords. All must end with 0 when told to, and leave books
    that prove right."""
    started: list[Proxy] = []
    place = tmp_path_factory.mktemp("proxy")

    def start(**settings: str) -> Proxy:
        started.append(Proxy(database_url=db.url, directory=place, **settings))
        return started[-1].wait_ready()

    yield start
    outputs = {proxy.url: proxy.output() for proxy in started}
    codes = {proxy.url: proxy.stop() for proxy in reversed(started) if proxy in running}
    assert all(code == 0 for code in codes.values()), f"exit codes {codes}\n" + "\n".join(outputs.values())
    assert_audit(db)


@pytest.fixture(scope="module")
def proxy(proxies: Callable[..., Proxy]) -> Proxy:
    return proxies()


@pytest.fixture(scope="module")
def admin(proxy: Proxy) -> Iterator[Admin]:
    with Admin(proxy.url) as operator:
        yield operator


@pytest.fixture
def new_scene(proxy: Proxy, admin: Admin, db: Database) -> Iterator[Callable[..., Scene]]:
    """Sets scenes up with what a test wants different; checks the books of all accounts when they are over."""
    with ExitStack() as stack:
        yield lambda **wanted: stack.enter_context(scenes_module.passing_scene(proxy, admin, db, **wanted))
        books(db)


@pytest.fixture
def scene(new_scene: Callable[..., Scene]) -> Scene:
    return new_scene()


@pytest.fixture
def upstream() -> Iterator[StandIn]:
    with StandIn() as server_:
        yield server_


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """A failed test shows the last lines that the proxies printed."""
    report = yield
    if report.failed:
        for proxy in running:
            lines = [line for line in proxy.output().splitlines() if not line.startswith(_CALL)]
            tail = "\n".join(line[:_LONGEST_LINE] for line in lines[-_LINES_SHOWN:])
            report.sections.append((f"output of the proxy at {proxy.url}", tail))
    return report
