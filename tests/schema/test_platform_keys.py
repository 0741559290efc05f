"""Keys in a column of the platform's own: its index, and what a start says where it can't be had."""

import json

import pytest
from alembic import command

from app.errors import StartupError
from app.runtime.migrations import config, upgrade
from app.runtime.platform_keys import PlatformKeys
from tests.harness.postgres import Database
from tests.schema import platform
from tests.schema.catalog import rows_of, schema_of

KEYS = PlatformKeys("api_key", "plain")
MANY = "INSERT INTO aigcspace.platform_api_key (user_id, api_key) SELECT 'u1', 'sk-many-' || n FROM generate_series(1, 20000) n"


def digest_of(db: Database, key: str) -> str:
    return db.value("SELECT encode(sha256($1::bytea), 'hex')", key.encode())


@pytest.fixture
def platforms(empty_database: Database) -> Database:
    platform.build(empty_database)
    return empty_database


@pytest.mark.parametrize("keys", [KEYS, PlatformKeys('a "hash" of it', "sha256")])
def test_a_key_is_found_by_its_index(platforms: Database, keys: PlatformKeys) -> None:
    platforms.execute(MANY)
    if keys is not KEYS:
        platforms.execute('ALTER TABLE aigcspace.platform_api_key ADD "a ""hash"" of it" CHAR(64)')
        platforms.execute("""UPDATE aigcspace.platform_api_key SET "a ""hash"" of it" = upper(encode(sha256(api_key::bytea), 'hex'))""")
    upgrade(platforms.url, platform_keys=keys)
    upgrade(platforms.url, platform_keys=keys)
    platforms.execute("ANALYZE aigcspace.platform_api_key")

    digest = digest_of(platforms, "sk-many-777")
    found = f"FROM aigcspace.platform_api_key WHERE key_hash = '{digest}' OR key_hash IS NULL AND {keys.digest} = '{digest}'"
    assert platforms.value(f"SELECT api_key {found}") == "sk-many-777"
    [plan] = json.loads(platforms.value(f"EXPLAIN (FORMAT JSON) SELECT id {found}"))
    assert "Seq Scan" not in str(plan)
    assert keys.index in str(plan)


def test_any_letters_are_hashed_as_they_are(platforms: Database) -> None:
    """Backslashes too, and what looks like bytes written in hexadecimal."""
    odd = ["sk-密钥", r"\x41", r"a\b\\c", "100% 'sure'"]
    for key in odd:
        platforms.execute("INSERT INTO aigcspace.platform_api_key (user_id, api_key) VALUES ('u1', $1)", key)
    upgrade(platforms.url, platform_keys=KEYS)
    for key in odd:
        digest = digest_of(platforms, key)
        row = platforms.one(
            f"SELECT api_key, to_jsonb(platform_api_key) AS j FROM aigcspace.platform_api_key WHERE {KEYS.digest} = $1", digest
        )
        assert row["api_key"] == key
        held = "SELECT aigcspace.holds_platform_secret($1::jsonb, $2)"
        assert platforms.value(held, row["j"], KEYS.presented(digest)) is True
        for wrong in (digest, KEYS.presented("0" * 64), f"{digest} plain no_such", f"{digest} md5 api_key"):
            assert platforms.value(held, row["j"], wrong) is False


def test_no_row_is_touched_and_down_takes_the_index_away(platforms: Database) -> None:
    schema, rows = schema_of(platforms), rows_of(platforms, "platform_api_key")
    upgrade(platforms.url, platform_keys=KEYS)
    command.check(config(platforms.url))
    command.downgrade(config(platforms.url), "base")
    assert (schema_of(platforms), rows_of(platforms, "platform_api_key")) == (schema, rows)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (PlatformKeys("apikey", "plain"), "PLATFORM_KEY_COLUMN: aigcspace.platform_api_key has no column 'apikey', but api_key, id, "),
        (PlatformKeys("is_active", "plain"), "PLATFORM_KEY_COLUMN: 'is_active' is of type boolean, and keys are text"),
    ],
)
def test_a_column_that_can_not_serve_stops_the_start(platforms: Database, keys: PlatformKeys, message: str) -> None:
    with pytest.raises(StartupError) as refused:
        upgrade(platforms.url, platform_keys=keys)
    assert message in str(refused.value)
