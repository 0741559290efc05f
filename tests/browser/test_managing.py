"""The pages on which operators manage things, as they are used: in headless Chromium, against a real proxy."""

import re
import secrets
from decimal import Decimal

import httpx
from playwright.sync_api import Page, expect

from tests.browser.conftest import Browsing
from tests.harness.admin import Admin
from tests.harness.proxy import ADMIN_TOKEN
from tests.harness.scene import Scene
from tests.standin import StandIn

SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(2)>"
MANAGING = ("users", "keys", "groups", "codes", "upstreams", "routes", "prices", "models", "tokens", "audit")


def press(page: Page, name: str) -> None:
    """The button of that name in what is on top: the newest dialog, or the page."""
    dialogs = page.locator("dialog")
    place = dialogs.last if dialogs.count() else page.locator("main")
    place.get_by_role("button", name=name, exact=True).click()


def fill_in(page: Page, **values: str) -> None:
    for name, value in values.items():
        page.locator("dialog").last.locator(f"[name={name}]").fill(value)


def test_a_user_is_created_and_topped_up(browsing: Browsing, admin: Admin) -> None:
    user = f"user-{secrets.token_hex(4)}"
    page = browsing.signed_in("/dashboard/users")
    press(page, "Add user")
    fill_in(page, id=user, name=SCRIPT, credit_limit="2.5")
    press(page, "Create")
    expect(page.locator("dialog h2")).to_have_text(f"Top up {user}")
    browsing.forgiven = ("status of 422",)
    fill_in(page, amount="a lot", note="invoice 1")
    press(page, "Top up")
    expect(page.locator("dialog [role=alert]")).to_contain_text("must be a decimal string")
    expect(page.locator("dialog .field", has=page.locator("[name=amount][aria-invalid]"))).to_contain_text("must be a decimal string")
    fill_in(page, amount="40")
    press(page, "Top up")
    expect(page.locator("dialog")).to_have_count(0)

    page.fill("input[name=q]", user)
    expect(page).to_have_url(re.compile(f"q={user}"))
    expect(page.locator(".list[aria-busy]")).to_have_count(0)
    expect(page.locator("tbody tr")).to_have_count(1)
    page.locator("tbody tr").focus()
    page.keyboard.press("Enter")
    expect(page.locator("dialog")).to_contain_text(SCRIPT)
    expect(page.locator("#credits")).to_contain_text("invoice 1")
    assert page.locator("img[src=x]").count() == 0
    known = admin.user(user)
    assert (known["credit"], known["available"][:5], known["name"]) == ("40.0000", "42.50", SCRIPT)

    press(page, "Edit")
    fill_in(page, name="Alice")
    press(page, "Save")
    expect(page.locator("dialog")).to_have_count(1)
    expect(page.locator("dialog")).to_contain_text("Alice")
    entry = admin.ask("GET", "/admin/audit", params={"object_kind": "user", "object_id": user})["data"][0]
    assert (entry["actor"], entry["action"], entry["after"]) == ("root", "user.change", {"name": "Alice"})


def test_a_key_is_created_used_rotated_and_revoked(browsing: Browsing, scene: Scene) -> None:
    page = browsing.signed_in(f"/dashboard/keys?user_id={scene.user}")
    press(page, "Create key")
    fill_in(page, user_id=scene.user, name="made by hand", models=f"{scene.model}\nother-*")
    press(page, "Create")
    key = page.locator("#secret-once").input_value()
    page.get_by_role("button", name="Claude Code").click()
    expect(page.locator("#snippet")).to_contain_text(f"export ANTHROPIC_AUTH_TOKEN='{key}'")

    def call(secret: str) -> httpx.Response:
        return scene.post(scene.chat(), headers={"Authorization": f"Bearer {secret}"})

    assert call(key).status_code == 200
    page.keyboard.press("Escape")
    page.locator("tbody tr").first.click()
    expect(page.locator("dialog")).to_contain_text(f"{scene.model}, other-*")
    press(page, "Rotate")
    press(page, "Rotate")
    rotated = page.locator("#secret-once").input_value()
    assert (call(key).status_code, call(rotated).status_code) == (401, 200)

    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_have_count(1)
    press(page, "Revoke")
    press(page, "Revoke")
    expect(page.locator("tbody tr").first).to_contain_text("Revoked")
    assert call(rotated).status_code in (401, 403)


def test_an_upstream_is_added_from_a_preset_and_tried(browsing: Browsing, admin: Admin) -> None:
    name = f"upstream-{secrets.token_hex(4)}"
    with StandIn() as upstream:
        upstream.answer(json={"object": "list", "data": [{"id": f"{name}-a", "object": "model"}, {"id": SCRIPT, "object": "model"}]})
        page = browsing.signed_in("/dashboard/upstreams")
        press(page, "Add upstream")
        page.select_option("#preset", "deepseek")
        expect(page.locator("dialog [name=base_url]")).to_have_value("https://api.deepseek.com")
        expect(page.locator("dialog [name=models]")).to_have_value("deepseek-*")
        fill_in(page, name=name, base_url=f"{upstream.url}/v1", api_key="secret-of-it-1234", models=f"{name}-a\n{name}-b = b")
        press(page, "Create")
        expect(page.locator("#test-result")).to_contain_text("It works")
        expect(page.locator("#offered")).to_contain_text(SCRIPT)
        expect(page.locator("#offered")).to_contain_text("Models without a price: 1")
        assert [(asked.path, asked.header("authorization")) for asked in upstream.requests] == [
            ("/v1/models", "Bearer secret-of-it-1234"),
            ("/v1/chat/completions", "Bearer secret-of-it-1234"),
        ]
    made = next(one for one in admin.listed("/admin/upstreams") if one["name"] == name)
    assert made["models"] == {f"{name}-a": f"{name}-a", f"{name}-b": "b"}
    page.get_by_role("link", name="Set a price").click()
    expect(page.locator("dialog [name=model]")).to_have_value(f"{name}-a")


def test_a_price_is_changed_after_a_preview(browsing: Browsing, scene: Scene, admin: Admin) -> None:
    scene.post(scene.chat())
    scene.row()
    page = browsing.signed_in(f"/dashboard/prices?q={scene.model}&open={scene.model}")
    expect(page.locator("dialog")).to_be_visible()
    press(page, "Change")
    fill_in(page, input="5", output="20")
    press(page, "Preview")
    preview = admin.ask(
        "POST", "/admin/prices/preview", json={"prices": [{"model": scene.model, "rates": scene.rates | {"input": "5", "output": "20"}}]}
    )
    assert preview["data"][0]["calls"] == 1
    expect(page.locator("#preview")).to_contain_text("They would have cost")
    expect(page.locator("#preview dd").first).to_have_text("1")
    press(page, "Save")
    expect(page.locator("tbody tr")).to_contain_text("$20.00")
    held = admin.listed(f"/admin/prices/{scene.model}/history")
    assert [price["rates"] for price in held] == [scene.rates | {"input": "5", "output": "20"}, scene.rates]


def test_a_price_has_other_rates_for_larger_inputs_and_service_tiers(browsing: Browsing, scene: Scene, admin: Admin) -> None:
    terms = {
        "tiers": [{"above_input_tokens": 200000, "rates": {"input": "6"}, "service_tiers": {"flex": {"input": "3", "image": "0.02"}}}],
        "service_tiers": {"flex": {"input": "1.25"}},
    }
    admin.ask("PUT", f"/admin/prices/{scene.model}", json={"rates": scene.rates} | terms)
    page = browsing.signed_in(f"/dashboard/prices?q={scene.model}&open={scene.model}")
    expect(page.locator("dialog")).to_contain_text("input above 200,000, flex: image 0.02, input 3")
    press(page, "Change")
    rows = page.locator("fieldset.case")
    expect(rows).to_have_count(3)
    fill_in(page, input="5")
    press(page, "Add a row")
    rows.nth(3).get_by_label("Output / 1M").fill("40")
    press(page, "Save")
    assert rows.nth(3).get_by_label("Input above (tokens)").evaluate("(input) => input.validationMessage").startswith("Say where")
    rows.nth(3).get_by_label("Service tier").fill("priority")
    rows.nth(2).get_by_role("button", name="Delete").click()
    press(page, "Save")
    expect(page.locator("dialog")).to_have_count(1)
    expect(page.locator("dialog")).to_contain_text("priority: output 40")
    now = admin.listed(f"/admin/prices/{scene.model}/history")[0]
    assert now["rates"]["input"] == "5"
    assert (now["tiers"], now["service_tiers"]) == (terms["tiers"], {"priority": {"output": "40"}})


def test_what_an_upstream_charges_is_set_and_counted(browsing: Browsing, scene: Scene) -> None:
    page = browsing.signed_in(f"/dashboard/upstreams?open={scene.upstream_id}")
    expect(page.locator("dialog")).to_be_visible()
    press(page, "What it charges")
    expect(page.locator("dialog").last).to_contain_text("No prices of this upstream yet")
    press(page, "Set a price")
    fill_in(page, model=scene.model, input="1.25", output="5")
    press(page, "Create")
    expect(page.locator("#costs tbody tr")).to_contain_text("In force")
    page.locator("#costs tbody tr").click()
    fill_in(page, output="6")
    press(page, "Save")
    expect(page.locator("#costs tbody tr")).to_have_count(2)
    expect(page.locator("#costs tbody tr").first).to_contain_text("$6.00")
    expect(page.locator("#costs tbody tr").last).to_contain_text("Superseded")
    scene.post(scene.chat())
    row = scene.row()
    assert row["upstream_cost"] == (row["input_tokens"] * Decimal("1.25") + row["output_tokens"] * 6) / 1_000_000


def test_limits_of_a_model_are_set_and_lifted(browsing: Browsing, admin: Admin) -> None:
    name = f"vendor/model-{secrets.token_hex(4)}"
    page = browsing.signed_in("/dashboard/models")
    press(page, "Set limits")
    fill_in(page, name=name, context_tokens="128000", max_output_tokens="16384")
    press(page, "Save")
    expect(page.locator("dialog")).to_have_count(0)
    page.fill("input[name=q]", name)
    expect(page.locator(".list:not([aria-busy]) tbody tr")).to_have_count(1)
    expect(page.locator("tbody tr")).to_contain_text("128,000")
    page.locator("tbody tr").click()
    press(page, "Edit")
    fill_in(page, context_tokens="")
    press(page, "Save")
    expect(page.locator("dialog")).to_have_count(1)
    [model] = admin.ask("GET", "/admin/models", params={"q": name})["data"]
    assert (model["context_tokens"], model["max_output_tokens"]) == (None, 16384)


def test_refusals_are_told_in_the_pages_language(browsing: Browsing, scene: Scene) -> None:
    browsing.forgiven = ("status of 4",)
    page = browsing.page("/dashboard/users")
    page.select_option("#language", "zh")
    page.fill("#secret", "wrong")
    page.click("button[type=submit]")
    expect(page.locator("#problem")).to_contain_text("这既不是管理员令牌")
    page.fill("#secret", ADMIN_TOKEN)
    page.click("button[type=submit]")
    press(page, "添加用户")
    fill_in(page, id=scene.user)
    press(page, "创建")
    expect(page.locator("dialog [role=alert]")).to_have_text("这个用户 ID 已存在，请换一个。")
    fill_in(page, id=f"{scene.user}-2", credit_limit="a lot")
    press(page, "创建")
    expect(page.locator("dialog [role=alert]")).to_have_text("请求有误：信用额度：必须是数字，例如 12.50")
    expect(page.locator("dialog .fault")).to_have_text("必须是数字，例如 12.50")


def test_a_call_in_the_playground_ends_with_its_bill(browsing: Browsing, scene: Scene) -> None:
    page = browsing.signed_in("/dashboard/playground")
    press(page, "Make one for an hour")
    fill_in(page, user_id=scene.user)
    press(page, "Create")
    expect(page.locator("dialog")).to_have_count(0)
    page.fill("input[name=model]", scene.model)
    page.fill("textarea[name=message]", "hello there")
    press(page, "Send")
    expect(page.locator("#result")).to_contain_text("Output tokens")
    row = scene.row()
    expect(page.locator("#result")).to_contain_text(f"${row['bill'].normalize():f}")
    assert page.locator("#answer").inner_text().strip()
    press(page, "Open the row")
    expect(page.locator("dialog")).to_contain_text(str(row["request_id"]))


def test_a_viewer_sees_all_of_it_and_may_write_nothing(browsing: Browsing, scene: Scene, admin: Admin) -> None:
    token = admin.ask("POST", "/admin/tokens", json={"name": f"viewer-{secrets.token_hex(4)}", "role": "viewer"})["token"]
    admin.ask("POST", "/admin/codes", json={"amount": "1", "count": 1, "note": SCRIPT})
    page = browsing.signed_in("/dashboard/users", token)
    for name in MANAGING:
        page.goto(f"{browsing.url}/dashboard/{name}")
        rows = page.locator("tbody tr")
        if name == "groups" and not admin.listed("/admin/groups"):
            expect(page.locator(".empty")).to_contain_text("No groups yet")
            continue
        rows.first.click()
        shown = page.locator("dialog").get_by_role("button").all_text_contents()
        assert set(shown) <= {"✕", "Statement", "Models it offers", "What it charges", "History", "Load more"}, name
        assert page.locator("main").locator("button.main, button.danger").count() == 0, name
    body = {"method": "POST", "headers": {"X-Dashboard": "1", "Content-Type": "application/json"}, "body": '{"id": "mallory"}'}
    assert page.evaluate("(how) => fetch('/admin/users', how).then((answer) => answer.status)", body) == 403
    browsing.troubles.clear()  # which the console tells of
