"""The pages have every command, every route and every table, and none that isn't there. What is missing is told as the line to add."""

import re
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from fastapi import FastAPI

from app import logs
from app.cli.main import COMMANDS, loaded
from app.database import Base
from app.gateway.by_id import asked_by_id
from app.main import create_app
from app.settings import Settings

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
ROUTE = re.compile(r"`(GET|POST|PUT|PATCH|DELETE) (/[^`]*)`")


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


@cache
def commands() -> dict[str, Any]:
    groups = {name: getattr(loaded(name), "commands", {"": loaded(name)}) for name in COMMANDS}
    return {f"{name} {sub}".strip(): command for name, group in groups.items() for sub, command in group.items()}


@cache
def application() -> FastAPI:
    """Which leaves the logs of other tests alone."""
    with patch.object(logs, "configure"):
        return create_app(Settings(_env_file=None))


def assert_lines(name: str, lines: list[str]) -> None:
    there = set(page(name).splitlines())
    missing = [line for line in lines if line not in there]
    assert not missing, f"docs/{name} lacks these lines:\n" + "\n".join(missing)


def test_every_command_is_on_its_page_with_its_help() -> None:
    lines = []
    for name, command in commands().items():
        arguments = [argument.metavar or argument.name.upper() for argument in command.params if argument.param_type_name == "argument"]
        lines.append(f"| `{' '.join([name, *arguments])}` | {command.get_short_help_str(300)} |")
    assert_lines("commands.md", lines)


def test_every_command_that_is_named_exists() -> None:
    known = {*commands(), *COMMANDS}
    for path in PAGES:
        code = "\n".join(re.findall(r"```sh.*?```|`[^`\n]+`", path.read_text(), re.DOTALL))
        for first, second in re.findall(r"billing-proxy ([a-z][a-z-]*)(?: ([a-z][a-z-]*))?", code):
            is_known = first in known and (first in commands() or not second or f"{first} {second}" in known)
            assert is_known, f"{path.name} has `billing-proxy {first} {second}`, which is no command"


def all_routes() -> set[tuple[str, str]]:
    """What the application answers, whether OpenAPI tells of it or not; HEAD is answered as GET."""
    app = application()
    mounted = [route for entry in app.routes for route in getattr(getattr(entry, "original_router", None), "routes", [entry])]
    served = {(method, route.path) for route in mounted for method in route.methods - {"HEAD"}}
    described = {(method.upper(), path) for path, methods in app.openapi()["paths"].items() for method in methods}
    return {(method, re.sub(r":path}", "}", path)) for method, path in served | described}


def test_every_route_is_in_the_api_guide_and_each_that_is_there_exists() -> None:
    documented = set(ROUTE.findall("\n".join(line for line in page("api.md").splitlines() if line.startswith("|"))))
    routes = all_routes()
    missing = sorted(f"{method} {path}" for method, path in routes - documented)
    assert not missing, f"docs/api.md lacks, in a table: {', '.join(f'`{route}`' for route in missing)}"
    unknown = {(method, path) for method, path in documented - routes if asked_by_id(method, path) is None}
    assert not unknown, f"docs/api.md has what is not served: {unknown}"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/conversations"),
        *((method, "/v1/conversations/{conversation_id}") for method in ("GET", "POST", "DELETE")),
        *((method, "/v1/conversations/{conversation_id}/items") for method in ("GET", "POST")),
        *((method, "/v1/conversations/{conversation_id}/items/{item_id}") for method in ("GET", "DELETE")),
    ],
)
def test_what_the_gateway_serves_by_id_is_in_the_api_guide(method: str, path: str) -> None:
    assert asked_by_id(method, path) is not None
    assert f"`{method} {path}`" in page("api.md")


def test_the_api_guide_says_what_openapi_says() -> None:
    described = application().openapi()["paths"].items()
    lines = [f"| `{method.upper()} {path}` | {told['summary']} |" for path, methods in described for method, told in methods.items()]
    assert_lines("api.md", lines)


def test_every_table_is_in_the_architecture() -> None:
    missing = [table.name for table in Base.metadata.tables.values() if not re.search(rf"\b{table.name}\b", page("architecture.md"))]
    assert missing == []


def test_links_lead_to_pages_that_are_there() -> None:
    for path in PAGES:
        for target, heading in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", path.read_text()):
            found = path.parent / target if target else path
            assert found.exists(), f"{path.name} links to {target}"
            text = found.read_text() if found.suffix == ".md" else ""
            titles = [line.lstrip("# ").lower() for line in text.splitlines() if line.startswith("#")]
            anchors = {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}
            assert not heading or heading in anchors, f"{path.name} links to {target}#{heading}"


def test_readme_leads_to_every_page() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [path.name for path in PAGES[1:] if f"(docs/{path.name})" not in readme] == []


def test_the_changelog_has_the_version() -> None:
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert f"## [{version[1]}]" in page("changelog.md")
