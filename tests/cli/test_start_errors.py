"""What is wrong with a setting, a file or the database is told in one line on standard error, without a secret."""

import subprocess

import pytest

from tests.harness.installation import Installation
from tests.harness.postgres import Databases
from tests.harness.proxy import free_port

WRONG = {
    "DATABASE_URL": ("postgresql://localhost/x", "postgresql+asyncpg://"),
    "PORT": ("eighty", "PORT"),
    "WORKERS": ("0", "WORKERS"),
    "ADMIN_TOKEN": ("short", "ADMIN_TOKEN: must have at least 16 characters"),
    "CURRENCY": ("dollars", "CURRENCY"),
    "DEFAULT_CREDIT": ("-1", "DEFAULT_CREDIT"),
    "LOG_TIME_ZONE": ("Mars/Olympus", "LOG_TIME_ZONE"),
    "SETTLE_WAIT": ("never", "SETTLE_WAIT"),
    "OUTPUT_LIMIT": ("maybe", "OUTPUT_LIMIT"),
    "TOPUP_URL": ("not a url", "TOPUP_URL"),
    "CORS_ORIGINS": ("chat.example.com", "CORS_ORIGINS"),
    "HOST": ("ü..x", "HOST"),
    "DATA_DIR": ("/proc/[/foo]", "DATA_DIR (/proc/[/foo])"),
}
MORE = [
    ("DATABASE_URL", "postgresql+asyncpg://u:hunter2@h:abc/db", "DATABASE_URL"),
    ("DATABASE_URL", "postgresql+asyncpg://u:hunter2@127.0.0.1:1/db?foo=bar", "`foo`"),
    ("DATABASE_URL", "postgresql+asyncpg://u:hunter2@127.0.0.1:1/db?statement_cache_size=x", "DATABASE_URL"),
    ("SHUTDOWN_WAIT", "inf", "SHUTDOWN_WAIT"),
    ("SETTLE_WAIT", "nan", "SETTLE_WAIT"),
    ("UPSTREAM_TOTAL_TIMEOUT", "inf", "UPSTREAM_TOTAL_TIMEOUT"),
    ("DEFAULT_CREDIT", "1e9999999", "DEFAULT_CREDIT"),
]


@pytest.mark.parametrize(("name", "value", "told"), [*((name, *rest) for name, rest in WRONG.items()), *MORE])
def test_a_setting_that_makes_no_sense_stops_the_start_with_one_line(installation: Installation, name: str, value: str, told: str) -> None:
    assert_told(installation.run("serve", **{name: value}), told)


def test_more_connections_than_the_embedded_database_has(installation: Installation) -> None:
    refused = installation.run("serve", WORKERS="6")
    assert_told(refused, "WORKERS x (DATABASE_POOL + 14 of its own) is 132 connections, and the embedded PostgreSQL has 90")
    assert "lower WORKERS (6) or DATABASE_POOL (8), or set DATABASE_URL" in refused.stderr
    assert not (installation.directory / ".data/postgres").exists()


def test_a_host_of_nothing_is_not_every_address(installation: Installation) -> None:
    assert_told(installation.run("serve", "--host", ""), "HOST")


def test_a_database_that_is_not_there_is_told_in_one_line(installation: Installation) -> None:
    assert_told(installation.run("serve", DATABASE_URL=f"postgresql+asyncpg://nobody:hunter2@127.0.0.1:{free_port()}/none"), "database")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"ADMIN_TOKEN=\xff\xfe\x00", ".env"),
        (b"# ours\n\nADMIN_TOKEN: hunter2-hunter2-hunter2\n", ".env, line 3"),
        (b"CURRENCY=USD\nADMIN_TOKEN='hunter2-hunter2-hunter2\n", ".env, line 2"),
        (b"CURRENCY=USD\nADMIN_TOKEN\n", ".env, line 2"),
    ],
)
def test_a_line_of_env_that_cant_be_read_is_not_passed_over(installation: Installation, content: bytes, told: str) -> None:
    (installation.directory / ".env").write_bytes(content)
    assert_told(installation.run("serve"), told)
    assert not (installation.directory / ".data/secrets.env").exists()


def test_secrets_that_cant_be_read(installation: Installation) -> None:
    secrets = installation.directory / ".data/secrets.env"
    secrets.parent.mkdir()
    secrets.write_bytes(b"ADMIN_TOKEN=\xff\xfe")
    secrets.chmod(0o600)
    assert_told(installation.run("serve"), "secrets.env")


def test_the_demo_of_a_database_that_was_never_migrated(installation: Installation, databases: Databases) -> None:
    assert_told(installation.run("demo", "remove"), "billing-proxy migrate")
    with databases.fresh(migrated=False) as empty:
        assert_told(installation.run("demo", "remove", DATABASE_URL=empty.url), "billing-proxy migrate")


def assert_told(refused: subprocess.CompletedProcess[str], told: str) -> None:
    assert (refused.returncode, refused.stdout) == (1, ""), refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1, refused.stderr
    assert told in refused.stderr
    assert "hunter2" not in refused.stderr
