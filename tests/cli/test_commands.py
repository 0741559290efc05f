"""What an operator does on the command line, beside a running proxy: the same as over REST, with the same checks and names."""

import json
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from typer.testing import CliRunner, Result

from app import logs
from app.cli.main import COMMANDS, cli
from app.errors import ProxyError, StartupError
from tests.harness.admin import Admin
from tests.harness.books import wait_until
from tests.harness.installation import Installation
from tests.harness.postgres import Database
from tests.harness.proxy import ADMIN_TOKEN, SECRET_KEY, Proxy
from tests.harness.tls import NO_TLS
from tests.standin import StandIn

Run = Callable[..., Result]
SECRET = "sk-upstream-of-the-command-line"
OPENAI = "https://api.openai.com/v1"


@pytest.fixture
def run(standing_db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command in this process; the exit code is that of `main`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logs, "configure", lambda _: None)  # it would outlive the test
    environment = {"DATABASE_URL": standing_db.url, "SECRET_KEY": SECRET_KEY, "ADMIN_TOKEN": ADMIN_TOKEN, "COLUMNS": "80"}

    def invoke(*arguments: str, stdin: str = "", **settings: str) -> Result:
        return CliRunner().invoke(cli, [*arguments], input=stdin, env=environment | settings)

    return invoke


@pytest.fixture
def told(run: Run) -> Callable[..., Any]:
    def tell(*arguments: str, stdin: str = "") -> Any:
        done = run(*arguments, "--json", stdin=stdin)
        assert done.exit_code == 0, (done.output, done.exception)
        return json.loads(done.stdout)

    return tell


@pytest.fixture
def mark() -> str:
    return secrets.token_hex(4)


@pytest.fixture
def admin(standing_proxy: Proxy) -> Iterator[Admin]:
    with Admin(standing_proxy.url) as operator:
        yield operator


def test_a_user_can_be_set_up_and_call(run: Run, told: Callable[..., Any], mark: str, standing_proxy: Proxy) -> None:
    user, model = f"cli-{mark}", f"model-{mark}"
    with StandIn() as upstream, httpx.Client(base_url=standing_proxy.url, trust_env=False, verify=NO_TLS, timeout=30) as http:
        told("users", "add", user)
        told("credits", "add", user, "12.5", "--note", "first")
        assert run("prices", "set", model, "input=2.5", "output=10").exit_code == 0
        told("upstreams", "add", f"u-{mark}", f"{upstream.url}/v1", "--model", f"{model}=stand-in", "--api-key-stdin", stdin=SECRET)
        key = told("keys", "add", user)
        headers = {"Authorization": f"Bearer {key['key']}"}
        wait_until(lambda: model in http.get("/v1/models", headers=headers).text, what="the proxy has heard of it")

        assert run("upstreams", "test", f"u-{mark}").exit_code == 0
        body = {"model": model, "messages": [{"role": "user", "content": "hello there"}]}
        answer = http.post("/v1/chat/completions", json=body, headers=headers)
        assert answer.status_code == 200
        assert upstream.requests[-1].header("authorization") == f"Bearer {SECRET}"

        [row] = told("logs", "list", "--user", user)
        assert row == told("logs", "list", "--model", model, "--status", "success", "--key", str(key["id"]))[0]
        shown = told("logs", "show", row["request_id"])
        assert (row["request_id"], row["bill"]) == (answer.headers["x-request-id"], shown["bill"])
        assert shown["line_items"]
        told("keys", "disable", str(key["id"]))
        assert http.post("/v1/chat/completions", json=body, headers=headers).status_code == 401


def test_names_and_values_are_those_of_rest(told: Callable[..., Any], admin: Admin, mark: str) -> None:
    user, group, model = f"cli-{mark}", f"group-{mark}", f"vendor/model-{mark}"
    made = told("groups", "add", group, "--multiplier", "0.8", "--model-multiplier", "gpt-5*=1.2", "--tags", "a,b", "--rpm", "9")
    assert admin.ask("GET", f"/admin/groups/{group}") == told("groups", "show", group) == made
    told("users", "add", user, "--name", "Ann", "--group", group, "--daily-limit", "5", "--credit-limit", "3")
    assert admin.user(user) == told("users", "show", user)
    told("credits", "add", user, "-1", "--idempotency-key", "k")
    assert admin.listed(f"/admin/users/{user}/credits") == told("credits", "list", user)
    key = told("keys", "add", user, "--models", "gpt*,x", "--expires-at", "2031-01-01T00:00:00+08:00", "--allowed-ips", "10.0.0.0/8")
    secret = key.pop("key")
    assert admin.ask("GET", f"/admin/keys/{key['id']}") == told("keys", "show", str(key["id"])) == key
    assert told("keys", "list", "--user", user) == [key]
    assert secret.startswith(key["key_prefix"])
    upstream = told("upstreams", "add", f"u-{mark}", OPENAI, "--model", mark, "--local", "--priority", "2", "--protocols", "openai,gemini")
    assert admin.ask("GET", f"/admin/upstreams/{upstream['id']}") == {**told("upstreams", "show", f"u-{mark}"), "health": "closed"}
    told("models", "set", model, "--context-tokens", "1000")
    assert admin.ask("GET", f"/admin/models/{quote(model)}") == told("models", "set", model, "--context-tokens", "1000")


def test_what_is_not_named_stays_and_none_lifts(told: Callable[..., Any], mark: str) -> None:
    user = f"cli-{mark}"
    told("users", "add", user, "--name", "Ann", "--rpm", "5", "--tpm", "7")
    changed = told("users", "set", user, "--rpm", "none")
    assert (changed["rpm"], changed["tpm"], changed["name"]) == (None, 7, "Ann")
    assert told("users", "disable", user)["disabled"]
    assert not told("users", "enable", user)["disabled"]
    key = told("keys", "add", user, "--spend-limit", "5")
    rotated = told("keys", "rotate", str(key["id"]), "--overlap", "60")
    assert rotated["key"] != key["key"]
    assert rotated["old_secret_until"] is not None
    model = f"m-{mark}"
    told("models", "set", model, "--context-tokens", "10", "--max-output-tokens", "5")
    assert told("models", "set", model, "--context-tokens", "none")["max_output_tokens"] == 5


def test_an_upstreams_secret_goes_in_and_never_comes_out(run: Run, told: Callable[..., Any], mark: str) -> None:
    name = f"u-{mark}"
    made = told("upstreams", "add", name, OPENAI, "--model", mark, "--api-key-stdin", stdin=f"{SECRET}\n{SECRET}-2\n")
    assert made["api_key_hints"] == [SECRET[-4:], "ne-2"]
    printed = run("upstreams", "show", name).output + run("upstreams", "list", "--limit", "1000").output
    assert SECRET not in printed + json.dumps(made)
    assert not told("upstreams", "set", name, "--no-api-key")["has_api_key"]
    assert run("upstreams", "add", "x", OPENAI, "--api-key", SECRET).exit_code == 2, "argv can be seen by others"
    assert "nothing came" in run("upstreams", "add", "x", OPENAI, "--api-key-stdin").output
    told("upstreams", "disable", name)


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("users show nobody", "There is no user 'nobody'"),
        ("users add demo --credit-limit -1", "credit_limit: must be from 0"),
        ("users add x --group no-such-group", "there is no group"),
        ("credits add nobody 1", "There is no user 'nobody'"),
        ("keys show 2000000000", "There is no key"),
        ("keys add nobody", "create the user first"),
        ("upstreams show nowhere", "`upstreams list` shows their names"),
        ("upstreams add x ftp://host", "base_url: must start with http"),
        ("models set a* --context-tokens 5", "stands for many"),
        ("groups remove no-such-group", "There is no group"),
        ("logs show 0", "There is no call"),
        ("models show no-such-model", "'billing-proxy models set'"),
        ("groups add x --rpm 99999999999", "rpm: must be from 1 to 2147483647; lift the limit for more"),
        ("users add a/credits", "id: must not end in `/credits`"),
        ("import litellm --users x.csv --rate nan", "--rate: must be a decimal number above 0"),
        ("prices set m input=1 input=2", "input: give one rate only"),
        ("prices set m input=1_0", "the rate of input is no decimal number: '1_0'"),
        (f"logs archive --before 2020-01-01 --to {'x' * 300}", "is no directory"),
    ],
)
def test_what_is_refused_is_said_with_code_1(run: Run, command: str, says: str) -> None:
    refused = run(*command.split())
    assert refused.exit_code == 1
    assert isinstance(refused.exception, (ProxyError, StartupError))
    assert says in str(refused.exception)


@pytest.mark.parametrize(
    "command",
    [
        "users set demo",
        "users set demo --rpm many",
        "credits add demo much",
        "keys show x",
        "logs list --from yesterday",
        "users nothing",
        "logs archive --before 2030 --to .",
        "keys add demo --expires-at 9999-12-31T23:59:59-10:00",
        "keys add demo --expires-at 0001-01-01T00:00:00+10:00",
        "keys add demo --expires-at 0001-01-01",
        "logs list --from 0001-01-01T00:00+05:00",
        "credits add demo 1_0",
        "credits add demo \u0661\u0662",
        "import elsewhere",
    ],
)
def test_wrong_usage_has_code_2(run: Run, command: str) -> None:
    wrong = run(*command.split())
    assert wrong.exit_code == 2, wrong.exception
    assert "Error" in wrong.output
    assert "Value error" not in wrong.output


def test_an_archive_wants_a_directory_by_name(run: Run) -> None:
    refused = run("logs", "archive", "--before", "2020-01-01", "--to", "")
    assert (refused.exit_code, "name a directory" in refused.output) == (2, True)


def test_a_price_that_loses_its_tiers_says_so(run: Run, admin: Admin, mark: str) -> None:
    admin.set_price(mark, {"input": "1"}, tiers=[{"above_input_tokens": 1000, "rates": {"input": "2"}}])
    assert "The tiers of the one before hold no more" in run("prices", "set", mark, "input=5").stdout.replace("\n", " ")
    assert run("prices", "set", mark, "input=6").stdout.split() == f"{mark} has a new price.".split()


def test_an_expired_key_is_shown_as_such(run: Run, told: Callable[..., Any], mark: str) -> None:
    told("users", "add", mark)
    told("keys", "add", mark, "--expires-at", "2001-01-01")
    assert "expired 2001-01-01" in " ".join(run("keys", "list", "--user", mark).stdout.split())


def test_tables_fit_the_terminal(run: Run, told: Callable[..., Any], mark: str) -> None:
    user = f"{mark}-{'long' * 10}"
    told("users", "add", user, "--name", " ".join(["a name that is too long for a column"] * 4))
    told("keys", "add", user, "--name", "[red]no markup[/] \u4f60\u597d")
    told("credits", "add", user, "123456789.1234", "--note", "x" * 200)
    told("groups", "add", f"g-{mark}", "--models", ",".join(f"model-{n}*" for n in range(20)), "--rpm", "5", "--daily-limit", "5.5")
    for columns in (80, 140):
        for command in ("users list", "keys list", f"credits list {user}", "groups list", "upstreams list", "models list", "logs list"):
            printed = run(*command.split(), "--limit", "5", COLUMNS=str(columns))
            assert printed.exit_code == 0, printed.exception
            assert max(map(len, printed.stdout.splitlines())) <= columns, command


def test_errors_are_one_line_of_a_real_process(installation: Installation, standing_db: Database) -> None:
    refused = installation.run("users", "show", "no[b]ody", DATABASE_URL=standing_db.url)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "billing-proxy: There is no user 'no[b]ody'.\n"
    away = installation.run("keys", "list", DATABASE_URL="postgresql+asyncpg://nobody:secret@127.0.0.1:9/none")
    assert (away.returncode, away.stdout, len(away.stderr.splitlines())) == (1, "", 1)
    assert "postgresql+asyncpg://nobody:***@127.0.0.1:9/none: [Errno 111]" in away.stderr


def test_help_comes_without_the_libraries_of_commands() -> None:
    listed = "import sys; from app.cli.main import cli; cli(['--help'], standalone_mode=False); print(*sys.modules, file=sys.stderr)"
    helped = subprocess.run([sys.executable, "-c", listed], capture_output=True, text=True, check=True)
    assert all(command in helped.stdout for command in COMMANDS)
    assert not {"sqlalchemy", "pydantic", "asyncpg", "fastapi"} & set(helped.stderr.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(run: Run, command: str) -> None:
    helped = run(command, "--help")
    assert helped.exit_code == 0, helped.exception
    assert COMMANDS[command].rstrip(".") in " ".join(helped.output.split())
