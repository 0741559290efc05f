"""The dashboard as it is used: in headless Chromium, against a real proxy."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from playwright.sync_api import expect

from tests.browser.conftest import Browsing
from tests.harness.admin import Admin
from tests.harness.scene import Scene

SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(2)>"
DEAR = {"input": "10000", "output": "10000"}
PLATFORM_ROWS = (
    "INSERT INTO aigcspace.api_call_log (user_id, model_name, is_local, input_tokens, output_tokens, bill, status) "
    "SELECT $1, 'planted', false, 1, 1, 0, 'success' FROM generate_series(1, 230)"
)


def test_signing_in_leads_to_what_was_asked_for_and_signing_out_ends_it(browsing: Browsing) -> None:
    browsing.forgiven = ("status of 401",)
    page = browsing.page("/dashboard/calls?status=failed&range=24h")
    page.fill("#secret", "not a token")
    page.click("button[type=submit]")
    expect(page.locator("#problem")).to_contain_text("neither an operator's token nor a platform key")

    asked = browsing.signed_in("/dashboard/calls?status=failed&range=24h")
    expect(asked.locator("select[name=status]")).to_have_value("failed")
    asked.click("#sign-out")
    asked.wait_for_url("**/dashboard/sign-in")
    asked.goto(f"{browsing.url}/dashboard/overview")
    expect(asked.locator("#secret")).to_be_visible()
    assert browsing.context.cookies() == []


def test_the_overviews_figures_are_those_of_stats(browsing: Browsing, scene: Scene, admin: Admin) -> None:
    for text in ("one", "two", "three"):
        scene.post(scene.chat(text))
    scene.post(scene.chat("too dear", max_tokens=1_000_000))
    assert len(scene.rows()) == 4
    page = browsing.signed_in("/dashboard/overview?range=7d")
    stats = admin.ask("GET", "/logs/stats", params={"created_from": (datetime.now(UTC) - timedelta(days=7)).isoformat()})["data"][0]
    wanted = {
        "spend": stats["bill"],
        "calls": stats["calls"],
        "tokens": stats["input_tokens"] + stats["output_tokens"],
        "failures": stats["failures"],
        "latency": stats["latency_ms"]["p95"],
    }
    for name, value in wanted.items():
        expect(page.locator(f"#figure-{name}")).to_have_attribute("data-value", str(value))
    assert Decimal(stats["bill"]) > 0
    expect(page.locator(f"#health-{scene.upstream_id}")).to_have_text("Serves")
    expect(page.locator(".chart:has(canvas)")).to_have_count(3)


def test_a_call_is_found_by_filters_and_opened_with_its_bill(browsing: Browsing, scene: Scene) -> None:
    scene.post(scene.chat("hello there"))
    row = scene.row()
    page = browsing.signed_in("/dashboard/calls")
    page.fill("input[name=user_id]", scene.user)
    page.select_option("select[name=status]", "success")
    expect(page.locator("#calls tbody tr")).to_have_count(1)
    expect(page).to_have_url(re.compile(f"user_id={scene.user}&status=success|status=success&user_id={scene.user}"))

    page.click("#calls tbody tr")
    bill = page.locator("#bill")
    expect(bill).to_contain_text("Input tokens")
    expect(bill).to_contain_text("$2.50 / 1M")
    expect(bill).to_contain_text("$10.00 / 1M")
    expect(bill.locator("tfoot")).to_contain_text(f"${row['charge'].normalize():f}")
    expect(page.locator("dialog")).to_contain_text(str(row["request_id"]))
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_have_count(0)
    page.go_back()
    expect(page.locator("dialog")).to_contain_text(str(row["request_id"]))


def test_more_rows_come_as_one_scrolls(browsing: Browsing, scene: Scene) -> None:
    scene.db.execute(PLATFORM_ROWS, scene.user)
    try:
        page = browsing.signed_in(f"/dashboard/calls?user_id={scene.user}")
        rows = page.locator("#calls tbody tr")
        expect(rows.nth(99)).to_be_attached()
        rows.nth(99).scroll_into_view_if_needed()
        expect(rows.nth(199)).to_be_attached()
        rows.nth(199).scroll_into_view_if_needed()
        expect(rows).to_have_count(230)
        expect(page.locator("#total")).to_contain_text("calls")
    finally:
        scene.db.execute("DELETE FROM aigcspace.api_call_log WHERE user_id = $1 AND model_name = 'planted'", scene.user)


def test_a_key_owner_sees_their_own_and_nothing_of_operators(browsing: Browsing, new_scene: Callable[..., Scene], admin: Admin) -> None:
    own, other = new_scene(key_fields={"scope": "account"}, rates=DEAR), new_scene()
    own.post(own.chat("mine", max_tokens=50))
    other.post(other.chat("theirs"))
    assert own.row()
    assert other.row()
    page = browsing.signed_in("/dashboard/calls", own.key)
    expect(page.locator("#calls tbody tr")).to_have_count(1)
    expect(page.locator("#calls")).to_contain_text(own.model)
    assert page.locator("input[name=user_id]").count() == 0
    answers = page.evaluate("Promise.all(['/admin/users', '/admin/state'].map((path) => fetch(path).then((answer) => answer.status)))")
    browsing.troubles.clear()  # which the console tells of
    assert answers == [401, 401]

    code = admin.ask("POST", "/admin/codes", json={"amount": "5", "count": 1})["codes"][0]
    page.goto(f"{browsing.url}/dashboard/account")
    expect(page.locator("#content")).to_contain_text("$99.93")
    page.fill("input[name=code]", code)
    page.click("button[type=submit]")
    expect(page.locator("#content")).to_contain_text("$104.93")
    expect(page.locator("#content")).to_contain_text(own.model)  # the statement's line


def test_names_and_errors_are_shown_as_text(browsing: Browsing, scene: Scene, admin: Admin) -> None:
    key = admin.add_key(scene.user, name=SCRIPT, scope="account")["key"]
    assert scene.post(scene.chat("hi") | {"model": SCRIPT}).status_code == 404
    assert len(scene.rows()) == 1
    page = browsing.signed_in("/dashboard/calls", key)
    expect(page.locator("#calls tbody")).to_contain_text(SCRIPT)
    page.click("#calls tbody tr")
    expect(page.locator("dialog")).to_contain_text(SCRIPT)
    page.goto(f"{browsing.url}/dashboard/overview")
    expect(page.locator("#figure-calls")).to_contain_text("1")
    expect(page.locator("nav")).to_contain_text(SCRIPT)
    expect(page.locator("#content")).to_contain_text(SCRIPT)  # among the models
    assert page.locator("img[src=x]").count() == 0


def test_language_and_theme_are_kept(browsing: Browsing) -> None:
    page = browsing.signed_in("/dashboard/calls")
    page.select_option("#theme", "dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(15, 19, 24)"
    page.select_option("#language", "zh")
    expect(page.locator("h1")).to_have_text("调用记录")
    assert page.evaluate("[document.documentElement.lang, document.documentElement.dataset.theme]") == ["zh-Hans", "dark"]
