"""Sessions of browsers, without one: what the cookie is, what it is good for, and when it ends."""

from collections.abc import Iterator
from http.cookies import SimpleCookie

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response

from app.api import session as sessions
from app.api.session import COOKIE, IDLE, LONGEST, SECURE_COOKIE, Sessions
from app.settings import Settings
from tests.harness.admin import Admin
from tests.harness.proxy import ADMIN_TOKEN, Proxy
from tests.harness.scene import Scene
from tests.harness.tls import NO_TLS

SECRET = "a secret key of these tests"


@pytest.fixture
def visitor(proxy: Proxy) -> Iterator[httpx.Client]:
    """As our own pages ask."""
    headers = {"Origin": proxy.url, "X-Dashboard": "1"}
    with httpx.Client(base_url=proxy.url, headers=headers, trust_env=False, verify=NO_TLS, timeout=20) as client:
        yield client


def sign_in(visitor: httpx.Client, secret: str, **headers: str) -> httpx.Response:
    answer = visitor.post("/dashboard/session", json={"secret": secret}, headers=headers)
    assert answer.status_code == 204, answer.text
    return answer


def test_the_cookie_is_out_of_reach_of_scripts_and_of_other_sites(visitor: httpx.Client) -> None:
    plain = SimpleCookie(sign_in(visitor, ADMIN_TOKEN).headers["set-cookie"])[COOKIE]
    assert (plain["httponly"], plain["samesite"], plain["path"], plain["secure"]) == (True, "strict", "/", "")
    host = visitor.base_url.netloc.decode()
    over_tls = SimpleCookie(sign_in(visitor, ADMIN_TOKEN, Origin=f"https://{host}").headers["set-cookie"])[SECURE_COOKIE]
    assert (over_tls["httponly"], over_tls["samesite"], over_tls["path"], over_tls["secure"]) == (True, "strict", "/", True)
    assert ADMIN_TOKEN not in plain.value + over_tls.value


@pytest.mark.parametrize(
    "sent",
    [
        {"X-Dashboard": ""},
        {"Origin": "https://elsewhere.example.com"},
        {"Origin": ""},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
    ids=lambda sent: " ".join(map("=".join, sent.items())),
)
def test_no_other_site_changes_anything(visitor: httpx.Client, scene: Scene, admin: Admin, sent: dict[str, str]) -> None:
    sign_in(visitor, ADMIN_TOKEN)
    for name, value in sent.items():
        visitor.headers[name] = value
        if not value:
            del visitor.headers[name]
    for method, path, body in (
        ("POST", f"/admin/users/{scene.user}/credits", {"amount": "5"}),
        ("PATCH", f"/admin/users/{scene.user}", {"name": "changed"}),
        ("POST", "/dashboard/session", {"secret": ADMIN_TOKEN}),
        ("DELETE", "/dashboard/session", None),
    ):
        answer = visitor.request(method, path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (403, "cross_site"), (method, path)
    assert admin.user(scene.user)["credit"] == "100.0000"
    assert visitor.get("/admin/users").status_code == 200


def test_what_a_session_changes_is_in_the_audit_in_its_operators_name(visitor: httpx.Client, scene: Scene, admin: Admin) -> None:
    made = admin.ask("POST", "/admin/tokens", json={"name": f"finance {scene.user}", "role": "admin"})
    sign_in(visitor, made["token"])
    assert visitor.post(f"/admin/users/{scene.user}/credits", json={"amount": "5"}).status_code == 201
    (entry,) = admin.listed("/admin/audit", actor=f"token:finance {scene.user}")
    assert (entry["object_kind"], entry["object_id"], entry["after"]["amount"]) == ("user", scene.user, "5.0000")


def test_a_viewer_reads_and_changes_nothing(visitor: httpx.Client, scene: Scene, admin: Admin) -> None:
    made = admin.ask("POST", "/admin/tokens", json={"name": f"viewer {scene.user}", "role": "viewer"})
    sign_in(visitor, made["token"])
    assert visitor.get(f"/admin/users/{scene.user}").status_code == 200
    refused = visitor.patch(f"/admin/users/{scene.user}", json={"name": "changed"})
    assert (refused.status_code, refused.json()["code"]) == (403, "viewer_only")


def test_a_session_ends_with_its_token_or_key(visitor: httpx.Client, scene: Scene, admin: Admin) -> None:
    made = admin.ask("POST", "/admin/tokens", json={"name": f"leaves {scene.user}", "role": "admin"})
    sign_in(visitor, made["token"])
    assert visitor.get("/admin/users").status_code == 200
    admin.ask("DELETE", f"/admin/tokens/{made['id']}")
    assert visitor.get("/admin/users").status_code == 401
    assert visitor.get("/dashboard/overview").headers["location"] == "/dashboard/sign-in?next=%2Fdashboard%2Foverview"

    sign_in(visitor, scene.key)
    assert visitor.get("/v1/key").json()["user_id"] == scene.user
    assert visitor.get("/admin/users").status_code == 401
    admin.ask("DELETE", f"/admin/keys/{scene.key_id}")
    assert visitor.get("/v1/key").status_code == 401
    assert visitor.get("/dashboard/overview").status_code == 303


def test_a_header_counts_before_the_cookie(visitor: httpx.Client, scene: Scene) -> None:
    sign_in(visitor, ADMIN_TOKEN)
    scene.post(scene.chat())
    with_key = visitor.get("/logs", headers={"Authorization": f"Bearer {scene.key}"}).json()["data"]
    assert {row["user_id"] for row in with_key} <= {scene.user}
    assert visitor.get("/logs", headers={"Authorization": "Bearer nonsense"}).status_code == 401


def asking(cookie: str) -> Request:
    return Request(
        {"type": "http", "method": "GET", "headers": [(b"cookie", f"{COOKIE}={cookie}".encode())], "path": "/", "scheme": "http"}
    )


def begun(made: Sessions) -> str:
    response = Response()
    request = Request({"type": "http", "method": "POST", "headers": [], "path": "/", "scheme": "http", "server": ("127.0.0.1", 80)})
    made.begin(request, response, "root", ADMIN_TOKEN)
    return SimpleCookie(response.headers["set-cookie"])[COOKIE].value


def of(secret: str, *, former: str | None = None) -> Sessions:
    return Sessions(Settings(secret_key=secret, secret_key_old=former))


def test_any_process_with_the_key_reads_a_session_and_others_dont() -> None:
    cookie = begun(of(SECRET))
    assert of(SECRET).of(asking(cookie)) is not None
    assert of("a newer key of these tests", former=SECRET).of(asking(cookie)) is not None
    assert of("another installation's key").of(asking(cookie)) is None
    assert of(SECRET).of(asking(cookie[:-5] + "AAAA=")) is None
    assert of(SECRET).of(asking("nonsense")) is None


def test_a_session_ends_when_it_is_idle_or_old(monkeypatch: pytest.MonkeyPatch) -> None:
    made, now = of(SECRET), sessions.time()
    cookie = begun(made)
    kept = made.of(asking(cookie))
    assert kept is not None
    monkeypatch.setattr(sessions, "time", lambda: now + IDLE.total_seconds() + 5)
    assert made.of(asking(cookie)) is None

    response = Response()
    made.renew(asking(cookie), response, kept)
    renewed = SimpleCookie(response.headers["set-cookie"])[COOKIE].value
    assert made.of(asking(renewed)) is not None
    monkeypatch.setattr(sessions, "time", lambda: now + LONGEST.total_seconds() + 5)
    made.renew(asking(renewed), response, kept)
    assert made.of(asking(SimpleCookie(response.headers.getlist("set-cookie")[-1])[COOKIE].value)) is None
