"""Who calls, where proxies stand before this one."""

import pytest
from starlette.types import Receive, Scope, Send

from app.api.behind_proxies import behind_proxies

TRUSTED = "10.0.0.0/8, ::1"


async def caller(peer: str, *values: str, header: str = "x-forwarded-for") -> str:
    """Whom the application sees."""
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["client"][0])

    headers = [(header.encode(), value.encode()) for value in values]
    await behind_proxies(app, TRUSTED, header=header)({"type": "http", "client": (peer, 1), "headers": headers}, None, None)  # type: ignore[arg-type]
    return str(seen[0])


@pytest.mark.parametrize(
    ("peer", "values", "expected"),
    [
        ("203.0.113.7", ["198.51.100.1"], "203.0.113.7"),  # a stranger may write what it likes
        ("10.1.2.3", ["198.51.100.1"], "198.51.100.1"),
        ("10.1.2.3", ["1.1.1.1, 198.51.100.1, 10.9.9.9"], "198.51.100.1"),  # what is left of it is anybody's word
        ("10.1.2.3", ["1.1.1.1", "198.51.100.1"], "198.51.100.1"),
        ("10.1.2.3", ["198.51.100.1, unknown"], "10.1.2.3"),
        ("10.1.2.3", [], "10.1.2.3"),
        ("::1", ["2001:db8::7"], "2001:db8::7"),
    ],
)
async def test_the_rightmost_that_is_no_proxy_of_ours(peer: str, values: list[str], expected: str) -> None:
    assert await caller(peer, *values) == expected


async def test_the_standard_header() -> None:
    assert await caller("10.1.2.3", 'for=1.1.1.1, for="[2001:db8::7]:4711";proto=https', header="forwarded") == "2001:db8::7"
