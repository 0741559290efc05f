"""`billing-proxy prices`: what would change is shown before it is written, and what an operator has set is left alone."""

import json
import os
import pty
import subprocess
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.catalog.price_catalogue import SOURCE, list_price
from tests.harness.installation import Installation
from tests.harness.postgres import Database
from tests.harness.proxy import COMMAND

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(db: Database, tmp_path: Path) -> Iterator[Run]:
    """The command on a database without prices, upstreams and models."""
    db.execute("TRUNCATE aigcspace.model_price, aigcspace.model_route")
    db.execute("DELETE FROM aigcspace.upstream")
    db.execute("DELETE FROM aigcspace.model")
    installation = Installation(tmp_path)

    def prices(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        return installation.run("prices", *arguments, DATABASE_URL=db.url, COLUMNS="160", **settings)

    yield prices
    installation.http.close()


def told(answer: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def rates(db: Database, model: str) -> dict[str, str]:
    return json.loads(db.value("SELECT rates FROM aigcspace.model_price WHERE model_name = $1 ORDER BY id DESC LIMIT 1", model))


def count(db: Database) -> int:
    return db.value("SELECT count(*) FROM aigcspace.model_price")


def add_upstream(db: Database, name: str, base_url: str, *routes: tuple[str, str | None]) -> None:
    made = db.value("INSERT INTO aigcspace.upstream (name, base_url) VALUES ($1, $2) RETURNING id", name, base_url)
    for route in routes:
        db.execute("INSERT INTO aigcspace.model_route (upstream_id, pattern, upstream_model) VALUES ($1, $2, $3)", made, *route)


def test_a_table_is_seeded_once(run: Run, db: Database) -> None:
    first = told(run("sync", "--provider", "openai", "--model", "gpt-4o*", "--yes", "--json"))
    listed = list_price("openai", "gpt-4o")

    assert listed is not None
    assert first["applied"]
    assert first["new"] == count(db) > 5
    price = db.one("SELECT * FROM aigcspace.model_price WHERE model_name = 'gpt-4o'")
    assert (json.loads(price["rates"]), json.loads(price["service_tiers"])) == (listed.rates, listed.service_tiers)
    assert price["source"] == SOURCE
    assert db.value("SELECT context_tokens FROM aigcspace.model WHERE name = 'gpt-4o'") == listed.context_tokens
    again = told(run("sync", "--provider", "openai", "--model", "gpt-4o*", "--yes", "--json"))
    assert (again["new"], again["changed"], again["same"], again["applied"]) == (0, 0, first["new"], False)
    assert count(db) == first["new"]


def test_a_dry_run_shows_the_difference_and_writes_nothing(run: Run, db: Database) -> None:
    db.execute(
        """INSERT INTO aigcspace.model_price (model_name, rates, source) VALUES ('gpt-4o', '{"input": "1", "image": "3"}', 'older')"""
    )

    shown = run("sync", "--provider", "openai", "--model", "gpt-4o", "--dry-run")

    assert shown.returncode == 0, shown.stderr
    lines = [line.split() for line in shown.stdout.splitlines()]
    assert ["gpt-4o", "changed", "input", "1", "2.5"] in lines
    assert ["image", "3", "-"] in lines
    assert "0 new, 1 changed, 0 the same" in shown.stdout
    assert count(db) == 1


def test_what_an_operator_has_set_is_left_alone_until_told_otherwise(run: Run, db: Database) -> None:
    assert run("set", "gpt-4o", "input=7", "output=70").returncode == 0
    db.execute("INSERT INTO aigcspace.model (name, context_tokens) VALUES ('gpt-4o', 99)")

    kept = told(run("sync", "--provider", "openai", "--model", "gpt-4o", "--yes", "--json"))

    assert ([change["model"] for change in kept["kept"]], kept["limits"], kept["applied"]) == (["gpt-4o"], [], False)
    assert rates(db, "gpt-4o") == {"input": "7", "output": "70"}
    told(run("sync", "--provider", "openai", "--model", "gpt-4o", "--yes", "--json", "--overwrite"))
    assert rates(db, "gpt-4o")["input"] == "2.5"
    assert db.value("SELECT context_tokens FROM aigcspace.model WHERE name = 'gpt-4o'") == 128000


def test_by_default_it_is_what_the_upstreams_serve(run: Run, db: Database) -> None:
    add_upstream(db, "known", "https://api.openai.com/v1", ("gpt-4.1*", None), ("my-chat", "gpt-4o-mini-2024-07-18"))
    add_upstream(db, "unknown", "http://127.0.0.1:9/v1", ("*", None))

    found = told(run("sync", "--dry-run", "--json"))

    models = {change["model"] for change in found["prices"]}
    assert found["providers"] == ["openai"]
    assert "gpt-4.1-mini" in models
    assert all(model == "my-chat" or model.startswith("gpt-4.1") for model in models)
    [mine] = [change for change in found["prices"] if change["model"] == "my-chat"]
    assert mine["new"]["rates"]["input"] == "0.15"
    assert "openai (of the upstreams that there are)" in run("sync", "--dry-run").stdout


def test_rate_markup_and_prefix(run: Run, db: Database) -> None:
    done = run(
        *("sync", "--provider", "anthropic", "--prefix", "relay/", "--model", "relay/claude-opus-4-8"),
        *("--rate", "7.1", "--markup", "1.2", "--yes"),
        CURRENCY="CNY",
    )

    assert done.returncode == 0, done.stderr
    price = db.one("SELECT * FROM aigcspace.model_price")
    listed = list_price("anthropic", "claude-opus-4-8")
    assert listed is not None
    dearer = listed.times(Decimal("8.52"))
    assert (price["model_name"], price["source"]) == ("relay/claude-opus-4-8", f"{SOURCE} rate 7.1 markup 1.2")
    assert (json.loads(price["rates"]), json.loads(price["service_tiers"])) == (dearer.rates, dearer.service_tiers)
    assert Decimal(dearer.rates["input"]) == Decimal(listed.rates["input"]) * Decimal("8.52")


@pytest.mark.parametrize(
    ("arguments", "settings", "says"),
    [
        (("--provider", "openai", "--yes"), {"CURRENCY": "EUR"}, "--rate"),
        (("--provider", "opanai", "--yes"), {}, "anthropic, "),
        (("--provider", "openai"), {}, "--yes"),
        (("--provider", "openai", "--json"), {}, "--yes"),
        (("--provider", "openai", "--yes", "--rate", "0"), {}, "--rate"),
        (("--provider", "openai", "--yes", "--markup", "NaN"), {}, "--markup"),
        (("--provider", "openai", "--yes", "--rate", "7." + "1" * 40), {}, "digits"),
        (("--provider", "openai", "--yes", "--rate", "1000000"), {}, "rate of"),
        (("--provider", "openai", "--yes", "--model", "*o"), {}, "--model"),
        (("--yes",), {}, "--provider"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(
    run: Run, db: Database, arguments: tuple[str, ...], settings: dict[str, str], says: str
) -> None:
    refused = run("sync", *arguments, **settings)

    assert (refused.returncode, refused.stdout) == (1, "")
    assert says in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert count(db) == 0


@pytest.mark.parametrize(("answer", "code", "rows"), [("y", 0, 1), ("n", 1, 0)])
def test_on_a_terminal_it_asks(db: Database, run: Run, tmp_path: Path, answer: str, code: int, rows: int) -> None:
    ours, its = pty.openpty()
    command = [*COMMAND, "prices", "sync", "--provider", "openai", "--model", "gpt-4o"]
    environment = Installation(tmp_path).environment | {"DATABASE_URL": db.url, "TERM": "dumb"}
    with subprocess.Popen(command, stdin=its, stdout=its, stderr=its, cwd=tmp_path, env=environment) as process:
        os.close(its)
        seen = b""
        while b"Apply this?" not in seen:
            seen += os.read(ours, 4096)
        assert b"cache_read" in seen
        os.write(ours, answer.encode() + b"\n")
        assert process.wait(30) == code
    os.close(ours)
    assert count(db) == rows


def test_prices_are_set_and_listed(run: Run) -> None:
    assert "has a new price" in run("set", "vendor/model:8b", "input=0.15", "output=0.60").stdout
    assert json.loads(run("list", "--json").stdout)[0]["rates"] == {"input": "0.15", "output": "0.60"}
    assert "input 0.15, output 0.60" in run("list", "--model", "vendor/*").stdout
    assert "no prices" in run("list", "--model", "other*").stdout
    for wrong in ("input", "inptu=1"):
        assert run("set", "m", wrong).returncode == 1
