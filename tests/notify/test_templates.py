"""Bodies and signatures of webhooks, as each service would check them."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

import pytest

from app.notify.templates import Format, Post, post_of, refusal_in
from app.reports.outbox import Notice

NOTICE = Notice("upstream_down", "openai", "The upstream <!channel> openai & more is down.")
TEXT = f"[billing-proxy] {NOTICE.text}"
NOW = 1_900_000_000.25
SECRET = "SEC-of-the-robot"


def post(format: Format, secret: str | None = SECRET) -> Post:
    return post_of(NOTICE, id="17", at=datetime(2030, 1, 2, tzinfo=UTC), now=NOW, format=format, secret=secret)


def signed(key: str, said: str) -> str:
    return base64.b64encode(hmac.digest(key.encode(), said.encode(), hashlib.sha256)).decode()


@pytest.mark.parametrize(
    ("format", "body"),
    [
        ("slack", {"text": TEXT.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")}),
        ("feishu", {"msg_type": "text", "content": {"text": TEXT}}),
        ("dingtalk", {"msgtype": "text", "text": {"content": TEXT}}),
        ("wecom", {"msgtype": "text", "text": {"content": TEXT}}),
        ("json", {"id": "17", "at": "2030-01-02T00:00:00Z", "kind": "upstream_down", "subject": "openai", "text": NOTICE.text}),
    ],
)
def test_each_service_gets_its_own_body(format: Format, body: dict[str, Any]) -> None:
    assert (json.loads(post(format, None).body), post(format, None).headers, post(format, None).query) == (body, {}, "")


def test_json_is_signed_as_standard_webhooks_has_it() -> None:
    made = post("json")
    expected = signed(SECRET, f"17.{int(NOW)}.{made.body.decode()}")
    assert made.headers == {"webhook-id": "17", "webhook-timestamp": str(int(NOW)), "webhook-signature": f"v1,{expected}"}


def test_feishu_gets_its_signature_in_the_body() -> None:
    body = json.loads(post("feishu").body)
    assert (body["timestamp"], body["sign"]) == (str(int(NOW)), signed(f"{int(NOW)}\n{SECRET}", ""))


def test_dingtalk_gets_its_signature_in_the_address() -> None:
    query = parse_qs(post("dingtalk").query)
    milliseconds = str(int(NOW * 1000))
    assert query == {"timestamp": [milliseconds], "sign": [signed(SECRET, f"{milliseconds}\n{SECRET}")]}


@pytest.mark.parametrize(
    ("format", "answer", "refusal"),
    [
        ("feishu", b'{"code": 19021, "msg": "sign match fail"}', "code 19021: sign match fail"),
        ("feishu", b'{"code": 0, "msg": "success"}', None),
        ("dingtalk", b'{"errcode": 310000, "errmsg": "sign not match"}', "code 310000: sign not match"),
        ("wecom", b'{"errcode": 0, "errmsg": "ok"}', None),
        ("wecom", b"no json", None),
        ("json", b'{"code": 7}', None),
    ],
)
def test_a_refusal_that_comes_with_200_is_one(format: Format, answer: bytes, refusal: str | None) -> None:
    assert refusal_in(answer, format) == refusal
