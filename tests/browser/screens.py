"""Pictures of each page of the dashboard, in both themes and languages, as wide as a desk's and a phone's, to be looked at.

    python -m tests.browser.screens DIR [--only overview,calls]

Starts a proxy of its own, fills it, and writes DIR/{page}-{theme}-{language}-{width}.png. What goes wrong unseen is printed:
errors in the console, requests to elsewhere, and pages that are wider than the screen. Exit status 1: there was any.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Callable
from itertools import product
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright
from sqlalchemy import make_url

from app.runtime.migrations import upgrade
from app.runtime.postgres import EmbeddedPostgres
from tests.browser.conftest import CHROMIUM, Browsing, launch
from tests.browser.platform import furnish, plant
from tests.harness.admin import Admin
from tests.harness.proxy import ADMIN_TOKEN, Proxy

THEMES, LANGUAGES, WIDTHS = ("light", "dark"), ("en", "zh"), (1440, 390)
HEIGHTS = {1440: 900, 390: 844}
ZONE = "Asia/Shanghai"
PAGES = (
    "overview", "calls", "playground", "users", "keys", "groups", "codes", "upstreams", "routes", "prices", "models", "tokens", "audit",
)  # fmt: skip
TALLEST = 2000
"""Of a screen; a list that goes on as one scrolls would not end."""
BUSY = "[aria-busy=true]"


def _first_row(page: Page) -> None:
    page.locator("tbody tr").first.click()
    page.locator("dialog").wait_for()


def _press(page: Page, number: int) -> None:
    """The nth button of the newest dialog's tools, whatever it is called."""
    page.locator("dialog").last.locator(".tools button").nth(number).click()


def _create(page: Page) -> None:
    page.locator("#tools button.main").click()
    page.locator("dialog").wait_for()


def _costs(page: Page) -> None:
    page.get_by_role("cell", name="openai", exact=True).click()
    page.locator("dialog").wait_for()
    _press(page, 3)
    page.locator("#costs tbody tr").first.wait_for()


def _price(page: Page) -> None:
    page.get_by_role("cell", name="gpt-6.1-sol", exact=True).click()
    page.locator("dialog").wait_for()
    _press(page, 0)
    page.locator("dialog [name=input]").fill("2.2")
    page.locator("#preview").evaluate("(preview) => preview.previousElementSibling.querySelector('button').click()")
    page.locator("#preview dl").wait_for()


def _refused(page: Page) -> None:
    _create(page)
    page.locator("dialog [name=id]").fill("solo-dev")
    page.locator("dialog [name=credit_limit]").fill("a lot")
    page.locator("dialog button[type=submit]").click()
    page.locator("dialog .fault").wait_for()


OPENED: dict[str, tuple[str, Callable[[Page], None]]] = {
    "call": ("calls?status=success&model_name=gpt-6.1-sol", _first_row),
    "user": ("users", _first_row),
    "refused": ("users", _refused),
    "new-key": ("keys", _create),
    "new-upstream": ("upstreams", _create),
    "costs": ("upstreams", _costs),
    "price": ("prices", _price),
    "limits": ("models", _create),
    "entry": ("audit", _first_row),
}
"""Dialogs: the page, and what opens one there."""


class Photographer:
    def __init__(self, browser: Browser, proxy: Proxy, directory: Path, key: str) -> None:
        self._browser, self._proxy, self._directory, self._key = browser, proxy, directory, key
        self.troubles: list[str] = []

    def take(self, wanted: set[str], theme: str, language: str, width: int) -> None:
        self._take(wanted, theme, language, width, ADMIN_TOKEN, [*((name, name, None) for name in PAGES), *_opened()])
        self._take(wanted, theme, language, width, self._key, [("account", "account", None), ("own-overview", "overview", None)])

    def _take(
        self,
        wanted: set[str],
        theme: str,
        language: str,
        width: int,
        secret: str,
        subjects: list[tuple[str, str, Callable[[Page], None] | None]],
    ) -> None:
        context = self._browser.new_context(
            locale={"en": "en-US", "zh": "zh-CN"}[language],
            timezone_id=ZONE,
            viewport={"width": width, "height": HEIGHTS[width]},
            reduced_motion="reduce",
        )
        cookies = {"billing-proxy-theme": theme, "billing-proxy-language": language}
        context.add_cookies([{"name": name, "value": value, "url": self._proxy.url} for name, value in cookies.items()])
        browsing = Browsing(context, self._proxy.url)
        browsing.forgiven = ("status of 422",)
        page = browsing.page("/dashboard/sign-in")
        if not wanted or "sign-in" in wanted:
            page.screenshot(path=self._directory / f"sign-in-{theme}-{language}-{width}.png")
        page.fill("#secret", secret)
        page.click("button[type=submit]")
        page.wait_for_url("**/dashboard/overview")
        for name, path, act in subjects:
            if wanted and name not in wanted:
                continue
            what = f"{name}-{theme}-{language}-{width}"
            try:
                self._one(page, path, act, self._directory / f"{what}.png")
            except Exception as error:  # one page that fails is told, and the others are shown
                self.troubles.append(f"{what}: {error}")
            wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            browsing.troubles += [f"{wide} pixels too wide"] if wide > 0 else []
            self.troubles += [f"{what}: {trouble}" for trouble in browsing.troubles]
            browsing.troubles.clear()
        context.close()

    def _one(self, page: Page, path: str, act: Callable[[Page], None] | None, to: Path) -> None:
        size = page.viewport_size
        assert size is not None
        page.goto(f"{self._proxy.url}/dashboard/{path}")
        page.wait_for_load_state("networkidle")
        if path.startswith("overview"):
            page.locator(".chart:has(canvas)").nth(2).wait_for()
        if act:
            act(page)
            page.wait_for_load_state("networkidle")
        expect(page.locator(BUSY)).to_have_count(0)
        height = page.evaluate("document.documentElement.scrollHeight")
        if act is None and size["height"] < height < TALLEST:
            page.set_viewport_size({"width": size["width"], "height": height})  # so that what sticks to the screen's end does
        page.screenshot(path=to, full_page=act is None)
        page.set_viewport_size(size)


def _opened() -> list[tuple[str, str, Callable[[Page], None] | None]]:
    return [(name, path, act) for name, (path, act) in OPENED.items()]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.browser.screens", description="Pictures of each page of the dashboard.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--only", default="", metavar="NAME,...", help="pages or dialogs; by default all")
    options = parser.parse_args()
    if CHROMIUM is None:
        parser.error("there is no Chromium on this machine: install Debian's `chromium`")
    options.directory.mkdir(parents=True, exist_ok=True)
    wanted = set(filter(None, options.only.split(",")))
    with tempfile.TemporaryDirectory() as work:
        directory = Path(work)
        directory.chmod(0o755)  # for PostgreSQL, which runs as another user if we are root
        postgres = EmbeddedPostgres.start(directory / "data")
        try:
            upgrade(postgres.url)
            proxy = Proxy(database_url=postgres.url, directory=directory)
            try:
                troubles = _photograph(proxy.wait_ready(), postgres.url, options.directory, wanted)
            finally:
                proxy.stop()
        finally:
            postgres.stop()
    print(*troubles, sep="\n")
    return 1 if troubles else 0


def _photograph(proxy: Proxy, url: str, directory: Path, wanted: set[str]) -> list[str]:
    with Admin(proxy.url) as admin:
        upstreams, keys = furnish(admin)
        key = admin.add_key("lumen-studio", name="owner", scope="account")["key"]
    asyncio.run(plant(make_url(url).set(drivername="postgresql").render_as_string(hide_password=False), upstreams, keys))
    with sync_playwright() as library:
        browser = launch(library)
        photographer = Photographer(browser, proxy, directory, key)
        for theme, language, width in product(THEMES, LANGUAGES, WIDTHS):
            photographer.take(wanted, theme, language, width)
        browser.close()
    return photographer.troubles


if __name__ == "__main__":
    sys.exit(main())
