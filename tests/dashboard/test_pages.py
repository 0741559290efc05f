"""What the server gives browsers: pages, words, files."""

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

import app
from app.dashboard import assets
from app.dashboard.assets import Assets, charts_file
from app.dashboard.languages import LANGUAGES, language_for
from app.dashboard.pages import PAGES
from app.errors import Conflict, InvalidRequest, StartupError, UnacceptableValue, Unauthenticated, Unavailable
from tests.harness.proxy import Proxy
from tests.harness.tls import NO_TLS

PLACE = Path(assets.__file__).parent
LARGEST = 700 * 1024
"""Bytes of all that the overview loads, compressed."""


def names(words: Any, before: str = "") -> set[str]:
    return {
        name for key, value in words.items() for name in (names(value, f"{before}{key}.") if isinstance(value, dict) else {before + key})
    }


SERVERS_OWN = ("problems.", "faults.")
"""Sections that say in another language what the server says in English."""


def test_both_languages_have_the_same_words() -> None:
    assert names(LANGUAGES["en"].words) == {name for name in names(LANGUAGES["zh"].words) if not name.startswith(SERVERS_OWN)}
    for code, language in LANGUAGES.items():
        assert all(language(name) for name in names(language.words) if not name.startswith(SERVERS_OWN)), code
    places = {name: set(re.findall(r"\{\w+\}", LANGUAGES["en"](name))) for name in names(LANGUAGES["en"].words)}
    assert places == {name: set(re.findall(r"\{\w+\}", LANGUAGES["zh"](name))) for name in places}


def test_every_word_that_is_used_is_there() -> None:
    known = names(LANGUAGES["en"].words)
    for path in [*PLACE.rglob("*.js"), *PLACE.rglob("*.html")]:
        for name in re.findall(r"""\bt\(["']([\w.]+)["'][,)]""", path.read_text("utf-8")):
            assert name in known, f"{path.name}: {name}"
    assert {f"pages.{page.name}" for page in PAGES} | {f"sections.{page.section}" for page in PAGES} <= known


def test_what_is_said_in_another_language_is_what_the_server_says() -> None:
    said = "\n".join(path.read_text("utf-8") for path in Path(app.__file__).parent.rglob("*.py"))
    codes = set(LANGUAGES["zh"].words["problems"])
    assert {code for code in codes if f'"{code}"' not in said} == set()
    assert codes >= {error.default_code for error in (Conflict, InvalidRequest, UnacceptableValue, Unauthenticated, Unavailable)}


@pytest.mark.parametrize(
    ("cookie", "accepted", "language"),
    [
        (None, "", "en"),
        (None, "zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        (None, "fr, zh;q=0.5, en;q=0.7", "en"),
        (None, "zh;q=0, en;q=x, de", "en"),
        ("zh", "en", "zh"),
        ("fr", "en", "en"),
    ],
)
def test_which_language_a_browser_is_shown(cookie: str | None, accepted: str, language: str) -> None:
    assert language_for(cookie, accepted).code == language


def test_pages_and_files(proxy: Proxy) -> None:
    with httpx.Client(base_url=proxy.url, trust_env=False, verify=NO_TLS, timeout=20) as browser:
        assert browser.get("/").headers["location"] == "/dashboard/overview"
        page = browser.get("/dashboard/sign-in", headers={"Accept-Language": "zh"})
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert 'lang="zh-Hans"' in page.text
        policy = page.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        assert not re.search(r"<script(?![^>]* src=)|\sstyle=|\son\w+=", page.text)
        for url in re.findall(r'(?:src|href)="(/dashboard/static/[^"]+)"', page.text):
            file = browser.get(url)
            assert (file.status_code, file.headers["content-encoding"]) == (200, "gzip")
            assert "immutable" in file.headers["cache-control"]
        plain = browser.get(url, headers={"Accept-Encoding": "identity"})
        assert plain.content == file.content
        outdated = browser.get("/dashboard/static/0123456789abcdef/app.css")
        assert (outdated.status_code, outdated.json()["code"]) == (404, "file_not_found")
        assert browser.get("/dashboard/billing/subscription").json()["error"]["code"] == "missing_api_key"


def test_a_page_fetches_at_once_what_its_module_imports_and_these_in_turn() -> None:
    files = Assets.load()
    overview, keys = set(files.needed_by("pages/overview.js")), set(files.needed_by("pages/keys.js"))
    assert {"pages/overview_charts.js", "chart.js", assets.ECHARTS, "period.js", "words.js"} <= overview
    assert {"pages/snippets.js", "listing.js", "kinds.js", "address.js", "refusals.js"} <= keys
    assert assets.ECHARTS not in keys


def test_all_of_the_dashboard_is_light_enough() -> None:
    assert sum(len(asset.compressed) for asset in Assets.load().files.values()) < LARGEST


def test_a_start_without_the_charts_file_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "_PACKAGE", "no_such_package")
    with pytest.raises(StartupError, match=r"echarts\.esm\.min\.js.*make install"):
        charts_file()
