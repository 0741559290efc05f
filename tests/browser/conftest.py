"""A browser, as people have it: Debian's Chromium, which a library drives that downloads none of its own.

Each test gets a `Browsing`: a fresh browser context that notes what goes wrong unseen: errors in the console or in scripts, dialogs,
and requests that would leave this machine. None of these may be there when the test is over.
"""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Playwright, expect, sync_playwright

from tests.harness.proxy import ADMIN_TOKEN, Proxy
from tests.harness.standing import db, proxy  # noqa: F401

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WAIT = 15_000
"""Milliseconds that only a failure takes."""


def launch(library: Playwright) -> Browser:
    """It finds no host but this one."""
    args = ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
    return library.chromium.launch(executable_path=CHROMIUM, args=args)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine: install Debian's `chromium` to test the dashboard in a browser")
    expect.set_options(timeout=WAIT)
    with sync_playwright() as library:
        launched = launch(library)
        yield launched
        launched.close()


class Browsing:
    def __init__(self, context: BrowserContext, url: str) -> None:
        self.context = context
        self.url = url
        self.troubles: list[str] = []
        self.forgiven: tuple[str, ...] = ()
        context.set_default_timeout(WAIT)
        context.on("request", lambda request: self._note(not request.url.startswith((url, "data:")), f"request to {request.url}"))
        context.on("weberror", lambda error: self._note(True, f"script: {error.error}"))
        context.on("console", self._heard)
        context.on("dialog", lambda dialog: (self._note(True, f"dialog: {dialog.message}"), dialog.dismiss()))

    def _note(self, is_trouble: bool, what: str) -> None:
        if is_trouble:
            self.troubles.append(what)

    def _heard(self, message: ConsoleMessage) -> None:
        is_forgiven = any(text in message.text for text in self.forgiven)
        self._note(message.type in ("error", "warning") and not is_forgiven, f"console: {message.text}")

    def page(self, path: str = "/dashboard") -> Page:
        page = self.context.new_page()
        page.goto(self.url + path)
        return page

    def signed_in(self, path: str, secret: str = ADMIN_TOKEN) -> Page:
        """By way of the form."""
        page = self.page(path)
        page.fill("#secret", secret)
        page.click("button[type=submit]")
        page.wait_for_url(f"{self.url}{path}")
        return page


@pytest.fixture
def browsing(browser: Browser, proxy: Proxy) -> Iterator[Browsing]:  # noqa: F811
    context = browser.new_context(locale="en-US", timezone_id="Asia/Kolkata", viewport={"width": 1440, "height": 900})
    made = Browsing(context, proxy.url)
    yield made
    context.close()
    assert made.troubles == []
