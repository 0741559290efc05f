"""Whose address a call has where proxies stand before this one, and that nobody else can claim one."""

from collections.abc import Iterator

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from app.api.behind_proxies import behind_proxies
from tests.harness.books import wait_until
from tests.harness.proxy import Proxy
from tests.harness.scene import Scene

TRUSTED = "10.0.0.0/8, 192.0.2.1,fd00::/8"
FOR, STANDARD = "x-forwarded-for", "forwarded"


async def seen(peer: str, *headers: tuple[str, str], header: str = FOR) -> str:
    """The address that the application sees."""
    seen_by: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen_by.append(scope["client"][0])

    scope = {"type": "http", "client": (peer, 4711), "headers": [(name.encode(), value.encode()) for name, value in headers]}
    await behind_proxies(app, TRUSTED, header=header)(scope, None, None)  # type: ignore[arg-type]
    return seen_by[0]


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("10.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("192.0.2.1", "203.0.113.7", "203.0.113.7"),
        ("192.0.2.2", "203.0.113.7", "192.0.2.2"),  # not trusted
        ("10.0.0.1", "198.51.100.1, 203.0.113.7", "203.0.113.7"),  # what is left of it, the caller wrote
        ("10.0.0.1", "198.51.100.1, 203.0.113.7, 10.9.9.9, 192.0.2.1", "203.0.113.7"),
        ("10.0.0.1", "10.0.0.3,10.0.0.2", "10.0.0.3"),  # a caller inside
        ("10.0.0.1", "203.0.113.7, unknown, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "garbage", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.7:5000", "203.0.113.7"),
        ("10.0.0.1", "[2001:DB8::7]:5000", "2001:db8::7"),
        ("10.0.0.1", "2001:db8::7", "2001:db8::7"),
        ("10.0.0.1", "fe80::1%eth0", "10.0.0.1"),
        ("10.0.0.1", "::ffff:203.0.113.7", "203.0.113.7"),
        ("::ffff:10.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("fd00::1", "2001:db8::7", "2001:db8::7"),
    ],
)
async def test_the_rightmost_address_that_is_no_trusted_proxys(peer: str, forwarded: str, address: str) -> None:
    assert await seen(peer, (FOR, forwarded)) == address


async def test_several_lines_are_one_list() -> None:
    assert await seen("10.0.0.1", (FOR, "198.51.100.1"), ("x-other", "y"), (FOR, "203.0.113.7, 10.0.0.2")) == "203.0.113.7"
    assert await seen("10.0.0.1") == "10.0.0.1"


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        ("for=203.0.113.7", "203.0.113.7"),
        ("for=198.51.100.1, For=203.0.113.7;proto=https;by=10.0.0.1", "203.0.113.7"),
        ('proto=https; for="[2001:db8::7]:5000"', "2001:db8::7"),
        ('for="198.51.100.1, for=203.0.113.7', "203.0.113.7"),  # a quote that the caller left open takes nothing in
        ("for=203.0.113.7, for=_hidden", "10.0.0.1"),
        ("for=203.0.113.7, proto=https", "10.0.0.1"),
    ],
)
async def test_the_standard_header(forwarded: str, address: str) -> None:
    assert await seen("10.0.0.1", (STANDARD, forwarded), header=STANDARD) == address


async def test_only_the_header_that_the_proxies_write_is_believed() -> None:
    both = ((FOR, "203.0.113.7"), (STANDARD, "for=198.51.100.1"))
    assert await seen("10.0.0.1", *both) == "203.0.113.7"
    assert await seen("10.0.0.1", *both, header=STANDARD) == "198.51.100.1"


@pytest.fixture
def forwarded(scene: Scene, replica: Proxy) -> Iterator[httpx.Client]:
    """A caller of the replica through a proxy on this machine, that it trusts."""
    scene.known_to(replica)
    headers = {**scene.http.headers, "X-Forwarded-For": "203.0.113.7, 10.1.2.3"}
    with httpx.Client(base_url=replica.url, headers=headers, trust_env=False) as client:
        yield client


def test_rows_and_allowed_addresses_go_by_it(scene: Scene, forwarded: httpx.Client) -> None:
    path = f"/admin/keys/{scene.key_id}"
    scene.admin.ask("PATCH", path, json={"allowed_ips": ["203.0.113.0/24"]})
    assert forwarded.post("/v1/chat/completions", json=scene.chat()).status_code == 200
    assert forwarded.get("/v1/key").status_code == 200
    assert scene.row()["request_ip"] == "203.0.113.7"

    def refusal() -> httpx.Response | None:
        answer = forwarded.post("/v1/chat/completions", json=scene.chat(), headers={"X-Forwarded-For": "203.0.113.7, 198.51.100.1"})
        return answer if answer.status_code == 403 else None

    refused = wait_until(refusal, what="the replica has heard of the change", within=4)
    assert refused is not None
    assert "198.51.100.1" in refused.json()["error"]["message"]


def test_a_proxy_that_trusts_nobody_goes_by_the_connection(scene: Scene) -> None:
    answer = scene.post(scene.chat(), headers={"X-Forwarded-For": "203.0.113.7", "Forwarded": "for=203.0.113.7"})
    assert answer.status_code == 200
    assert scene.row()["request_ip"] == "127.0.0.1"
