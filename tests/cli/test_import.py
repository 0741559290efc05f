"""What LiteLLM's and new-api's tables say is taken over: people with their money, keys that go on working, prices."""

import csv
import hashlib
import json
import secrets
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from app import logs
from app.cli.main import cli
from app.errors import ProxyError
from tests.harness.postgres import Database
from tests.harness.proxy import ADMIN_TOKEN, SECRET_KEY, Proxy
from tests.harness.scene import Scene

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def db(standing_db: Database) -> Database:
    return standing_db


@pytest.fixture(scope="module")
def proxy(standing_proxy: Proxy) -> Proxy:
    return standing_proxy


@pytest.fixture
def run(db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logs, "configure", lambda _: None)  # it would outlive the test
    environment = {"DATABASE_URL": db.url, "SECRET_KEY": SECRET_KEY, "ADMIN_TOKEN": ADMIN_TOKEN}
    return lambda *arguments, **settings: CliRunner().invoke(cli, ["import", *arguments], env=environment | settings)


@pytest.fixture
def mark() -> str:
    return secrets.token_hex(4)


def written(name: str, rows: list[dict[str, Any]] | dict[str, Any]) -> str:
    """In the working directory."""
    if name.endswith(".json") or isinstance(rows, dict):
        Path(name).write_text(json.dumps(rows))
        return name
    with Path(name).open("w", newline="") as file:
        lines = csv.DictWriter(file, rows[0])
        lines.writeheader()
        lines.writerows(rows)
    return name


def told(done: Result) -> list[dict[str, str]]:
    assert done.exit_code == 0, (done.output, done.exception)
    return list(json.loads(done.stdout))


def refusal(done: Result) -> str:
    assert isinstance(done.exception, ProxyError), (done.output, done.exception)
    return str(done.exception)


def calls(scene: Scene, key: str) -> int:
    body, headers = scene.chat(), {"Authorization": f"Bearer {key}"}
    return httpx.post(f"{scene.proxy.url}/v1/chat/completions", json=body, headers=headers, trust_env=False, timeout=30).status_code


def new_api(mark: str, **token: Any) -> list[str]:
    users = [
        {
            "id": f"7-{mark}",
            "username": "ann",
            "display_name": "Ann",
            "status": 1,
            "quota": 5_250_000,
            "group": "default",
            "deleted_at": "",
        },
        {"id": f"8-{mark}", "username": "bob", "display_name": "", "status": 2, "quota": -5, "group": "", "deleted_at": ""},
        {"id": f"9-{mark}", "username": "gone", "display_name": "", "status": 1, "quota": 5, "group": "", "deleted_at": "2025-01-01"},
    ]
    usual = {"id": 1, "user_id": f"7-{mark}", "key": f"key{mark}", "status": 1, "name": f"laptop {mark}", "expired_time": -1}
    limits = {"remain_quota": 1_000_000, "unlimited_quota": 0, "model_limits_enabled": 0, "model_limits": "", "allow_ips": "", "group": ""}
    options = [
        {"key": "ModelRatio", "value": json.dumps({f"{mark}-4o": 1.25})},
        {"key": "CompletionRatio", "value": json.dumps({f"{mark}-4o": 4})},
        {"key": "CacheRatio", "value": json.dumps({f"{mark}-4o": 0.5})},
        {"key": "ModelPrice", "value": json.dumps({f"{mark}-draw": 0.04})},
        {"key": "SystemName", "value": "x"},
    ]
    written("users.csv", users)
    written("tokens.csv", [usual | limits | token])
    written("options.json", options)
    return ["new-api", "--users", "users.csv", "--keys", "tokens.csv", "--prices", "options.json"]


def test_new_api(run: Run, scene: Scene, mark: str) -> None:
    files = new_api(mark)

    assert {change["state"] for change in told(run(*files, "--dry-run", "--json"))} == {"new"}
    assert scene.db.fetch("SELECT FROM aigcspace.users WHERE id = $1", f"7-{mark}") == []
    changes = told(run(*files, "--json"))

    assert [(change["kind"], change["state"]) for change in changes] == [("user", "new")] * 2 + [("key", "new")] + [("price", "new")] * 2
    ann, bob = scene.admin.user(f"7-{mark}"), scene.admin.user(f"8-{mark}")
    assert (ann["name"], Decimal(ann["credit"]), ann["disabled"]) == ("Ann", Decimal("10.5"), False)
    assert (bob["name"], Decimal(bob["credit"]), bob["disabled"]) == ("bob", 0, True)
    prices = {price["model"]: price["rates"] for price in scene.admin.listed("/admin/prices", q=mark)}
    assert prices[f"{mark}-4o"] == {"input": "2.5", "output": "10", "cache_read": "1.25"}
    assert prices[f"{mark}-draw"] == {"request": "0.04"}
    [key] = scene.admin.listed("/admin/keys", user_id=f"7-{mark}")
    assert Decimal(key["spend_limit"]) == 2
    assert calls(scene, f"sk-key{mark}") == 200
    assert {change["state"] for change in told(run(*files, "--json"))} == {"is here already"}
    assert Decimal(scene.admin.user(f"7-{mark}")["credit"]) == Decimal("10.5")


def test_litellm(run: Run, scene: Scene, mark: str) -> None:
    secret = f"sk-{mark}-of-litellm"
    token = hashlib.sha256(secret.encode()).hexdigest()
    user = {"user_id": f"u-{mark}", "user_email": "u@example.com", "max_budget": 20.5, "spend": 0.25, "rpm_limit": 60}
    of_team = {"token": token[::-1], "key_name": "sk-...zzzz", "team_id": f"team-{mark}", "max_budget": 5, "budget_duration": "7d"}
    keys = [{"token": token, "key_name": "sk-...mell", "user_id": f"u-{mark}", "models": ["all-proxy-models"], "spend": 0.1}, of_team]
    params = {"model": "openai/gpt-4o", "input_cost_per_token": 2.5e-06, "cache_read_input_token_cost": None}
    info = {"output_cost_per_token": 1e-05, "input_cost_per_token_above_200k_tokens": 5e-06}
    prices = {"data": [{"model_name": f"{mark}-4o", "litellm_params": params, "model_info": info}]}
    files = [f"--{name}={written(f'{name}.json', rows)}" for name, rows in (("users", [user]), ("keys", keys), ("prices", prices))]

    changes = told(run("litellm", *files, "--json"))

    notes = {change["name"]: change["notes"] for change in changes}
    assert "give credit" in notes[f"team-{mark}"]
    assert any("7d has no counterpart" in note for note in notes.values())
    made = scene.admin.user(f"u-{mark}")
    assert (Decimal(made["credit"]), made["rpm"]) == (Decimal("20.25"), 60)
    [price] = scene.admin.listed("/admin/prices", q=mark)
    assert price["rates"] == {"input": "2.5", "output": "10"}
    assert price["tiers"][0]["rates"]["input"] == "5"
    assert calls(scene, secret) == 200


def test_what_is_at_fault_is_named_and_nothing_is_done(run: Run, db: Database, mark: str) -> None:
    done = run(*new_api(mark, key="abc****xyz"))

    assert "tokens.csv, line 2: key: is missing or masked" in refusal(done)
    assert db.fetch("SELECT FROM aigcspace.users WHERE id LIKE '%' || $1", mark) == []


def test_what_the_catalog_refuses_is_named_and_nothing_is_done(run: Run, db: Database, mark: str) -> None:
    done = run(*new_api(mark, group="vip-of-theirs"))

    assert "tokens.csv, line 2: group: there is no group 'vip-of-theirs'" in refusal(done)
    assert db.fetch("SELECT FROM aigcspace.users WHERE id LIKE '%' || $1", mark) == []


def test_a_ratio_without_its_completion_is_named(run: Run, mark: str) -> None:
    new_api(mark)
    prices = written("prices.json", [{"key": "ModelRatio", "value": json.dumps({f"{mark}-5": 1})}])

    assert "has no CompletionRatio" in refusal(run("new-api", "--prices", prices))


def test_another_currency_needs_a_rate(run: Run, scene: Scene, mark: str) -> None:
    files = new_api(mark)

    assert "--rate" in refusal(run(*files, CURRENCY="CNY"))
    told(run(*files, "--rate", "7", "--json", CURRENCY="CNY"))

    assert Decimal(scene.admin.user(f"7-{mark}")["credit"]) == Decimal("73.5")
