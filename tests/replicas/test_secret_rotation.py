"""Upstreams' secrets move to a new `SECRET_KEY` beside running proxies, which never lose one."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from app.catalog.vault import Vault
from app.settings import Settings
from tests.harness import preloaded
from tests.harness.admin import Admin
from tests.harness.books import wait_until
from tests.harness.postgres import Database, Databases
from tests.harness.proxy import SECRET_KEY, Proxy, bare_environment
from tests.harness.scene import UPSTREAM_SECRET, Scene
from tests.harness.scene import scene as set_scene
from tests.replicas.conftest import NEVER

NEW_KEY = "another-secret-key-of-the-tests-987"
BOTH = {"SECRET_KEY": NEW_KEY, "SECRET_KEY_OLD": SECRET_KEY}


@pytest.fixture
def db(databases: Databases) -> Iterator[Database]:
    """Of this test's own: the command is for all upstreams of a database."""
    with databases.fresh() as made:
        yield made


def rotate(db: Database, **settings: str) -> "subprocess.CompletedProcess[str]":
    environment = bare_environment() | {"DATABASE_URL": db.url, "COLUMNS": "300"} | settings
    return preloaded.run(["upstreams", "rotate-secrets"], environment=environment, directory=Path.cwd())


@contextmanager
def proxy(db: Database, directory: Path, **settings: str) -> Iterator[Proxy]:
    started = Proxy(database_url=db.url, directory=directory, **NEVER, **settings)
    try:
        yield started.wait_ready()
    finally:
        assert started.stop() == 0


def stored(db: Database) -> list[bytes]:
    return [row["secret"] for row in db.fetch("SELECT secret FROM aigcspace.upstream ORDER BY id")]


def assert_serves(scene: Scene, proxy: Proxy) -> None:
    wait_until(lambda: scene.http.post(f"{proxy.url}/v1/chat/completions", json=scene.chat()).status_code == 200, within=15)
    assert scene.upstream.requests[-1].header("authorization") == f"Bearer {UPSTREAM_SECRET}"


def test_secrets_are_written_anew_beside_proxies_that_know_both_keys(db: Database, tmp_path: Path) -> None:
    with ExitStack() as stack:
        old = stack.enter_context(proxy(db, tmp_path))
        scene = stack.enter_context(set_scene(old, stack.enter_context(Admin(old.url)), db))
        scene.admin.add_upstream("second", "http://127.0.0.1:9/v1", ["unused"], api_key="sk-second")
        gone = scene.admin.add_upstream("gone", "http://127.0.0.1:9/v1", ["x"], api_key="sk-3")
        scene.admin.ask("DELETE", f"/admin/upstreams/{gone['id']}")
        scene.admin.add_upstream("without", "http://127.0.0.1:9/v1", ["free"])
        both = stack.enter_context(proxy(db, tmp_path, **BOTH))
        assert_serves(scene, both)

        rotated = rotate(db, **BOTH)

        assert (rotated.returncode, rotated.stdout.strip()) == (0, "Encrypted under SECRET_KEY: 3 secrets now, 0 before."), rotated.stderr
        assert_serves(scene, both)
        after = stored(db)
        vault = Vault(NEW_KEY)
        assert [vault.decrypt(secret) for secret in after if secret] == [UPSTREAM_SECRET, "sk-second", "sk-3"]
        again = rotate(db, **BOTH)
        assert (again.returncode, again.stdout.strip()) == (0, "Encrypted under SECRET_KEY: 0 secrets now, 3 before.")
        assert stored(db) == after
        new = stack.enter_context(proxy(db, tmp_path, SECRET_KEY=NEW_KEY))
        assert_serves(scene, new)
        assert UPSTREAM_SECRET not in both.output() + new.output() + rotated.stdout + rotated.stderr


def test_a_secret_that_no_key_reads_is_named_and_nothing_is_changed(db: Database) -> None:
    for name, key in (("readable", SECRET_KEY), ("lost", "a key that nobody has any more")):
        sql = "INSERT INTO aigcspace.upstream (name, base_url, secret) VALUES ($1, 'http://127.0.0.1:9', $2)"
        db.execute(sql, name, Vault(key).encrypt("sk-1"))
    before = stored(db)

    refused = rotate(db, **BOTH)

    assert refused.returncode == 1
    assert "'lost'" in refused.stderr
    assert "'readable'" not in refused.stderr
    assert NEW_KEY not in refused.stderr
    assert stored(db) == before


def test_without_a_secret_key_nothing_is_rotated(db: Database, tmp_path: Path) -> None:
    refused = rotate(db, DATA_DIR=str(tmp_path))

    assert refused.returncode == 1
    assert "SECRET_KEY is not set" in refused.stderr


def test_former_keys_are_a_list_or_one_that_has_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", NEW_KEY)
    first, second, odd = "the-first-former-key", "the-second-former-key", "a,former,key,with,commas"
    for old, keys in ((f"{first}, {second}", (first, second)), (odd, (odd,))):
        monkeypatch.setenv("SECRET_KEY_OLD", old)
        vault = Vault.of(Settings.load())
        for key in keys:
            secret = Vault(key).encrypt("sk-1")
            assert vault.decrypt(secret) == "sk-1"
            assert not vault.is_current(secret)
