"""Whoever sends wrong keys or tokens too fast is slowed; those that are known to be right go on."""

from collections.abc import Callable
from http import HTTPStatus

import httpx
import pytest

from app.catalog.guesses import MOST_ADDRESSES, Guesses
from app.errors import LimitExceeded
from tests.harness.proxy import ADMIN_TOKEN, Proxy
from tests.harness.scene import Scene

MOST = 6


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_address_may_be_wrong_so_often_and_again_when_time_has_passed() -> None:
    clock = Clock()
    guesses = Guesses(MOST, clock=clock)
    for _ in range(MOST):
        guesses.check("192.0.2.1")
        guesses.wrong("192.0.2.1")

    with pytest.raises(LimitExceeded) as refused:
        guesses.check("192.0.2.1")
    guesses.check("192.0.2.2")

    assert refused.value.headers["Retry-After"] == "11"
    clock.now = 10.1
    guesses.check("192.0.2.1")


def test_addresses_of_one_network_of_ipv6_are_one() -> None:
    guesses = Guesses(1)
    guesses.wrong("2001:db8::1")

    with pytest.raises(LimitExceeded):
        guesses.check("2001:db8::ffff:0:0:2")
    guesses.check("2001:db8:0:1::1")


def test_only_so_many_addresses_are_remembered() -> None:
    guesses = Guesses(1)
    for number in range(MOST_ADDRESSES + 1):
        guesses.wrong(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")

    guesses.check("10.0.0.0")
    with pytest.raises(LimitExceeded):
        guesses.check("10.0.0.1")


@pytest.fixture(scope="module")
def proxy(proxies: Callable[..., Proxy]) -> Proxy:
    return proxies(GUESSES_PER_MINUTE=str(MOST), TRUSTED_PROXIES="127.0.0.1")


def test_guessing_keys_is_slowed_and_known_keys_go_on(scene: Scene) -> None:
    scene.post(scene.chat()).raise_for_status()

    seen = [asked(scene.proxy, "/v1/key", f"sk-{number}", address="192.0.2.1") for number in range(MOST + 3)]

    assert [answer.status_code for answer in seen] == [401] * MOST + [429] * 3
    assert seen[-1].json()["error"]["code"] == "too_many_wrong_keys"
    assert int(seen[-1].headers["retry-after"]) <= 11
    assert scene.post(scene.chat(), headers={"X-Forwarded-For": "192.0.2.1"}).status_code == HTTPStatus.OK
    assert asked(scene.proxy, "/v1/key", "sk-x", address="192.0.2.2").status_code == HTTPStatus.UNAUTHORIZED


def test_guessing_operators_tokens_is_slowed(proxy: Proxy) -> None:
    seen = [
        asked(proxy, ("/admin/users", "/logs")[number % 2], f"adm-{number}", address="192.0.2.3").status_code for number in range(MOST + 2)
    ]

    assert seen == [401] * MOST + [429] * 2
    assert asked(proxy, "/admin/users", ADMIN_TOKEN, address="192.0.2.3").status_code == 429, "else guessing would go on"
    assert asked(proxy, "/admin/users", ADMIN_TOKEN, address="192.0.2.4").status_code == 200


def test_guessing_where_one_signs_in_is_slowed(proxies: Callable[..., Proxy]) -> None:
    proxy = proxies(GUESSES_PER_MINUTE="2")
    headers = {"Origin": proxy.url, "X-Dashboard": "1"}
    with httpx.Client(base_url=proxy.url, headers=headers, trust_env=False, timeout=20) as page:
        seen = [page.post("/dashboard/session", json={"secret": f"sk-{number}"}).status_code for number in range(3)]
        assert seen == [401, 401, 429]
        assert page.post("/dashboard/session", json={"secret": ADMIN_TOKEN}).status_code == 429


def asked(proxy: Proxy, path: str, token: str, *, address: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}", "X-Forwarded-For": address}
    return httpx.get(proxy.url + path, headers=headers, trust_env=False)
