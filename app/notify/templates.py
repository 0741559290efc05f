"""A webhook's body and signature, as each service documents them.

json        our own fields; signed as https://www.standardwebhooks.com says (`webhook-id`, `webhook-timestamp`, `webhook-signature`)
slack       https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks
feishu      https://open.feishu.cn/document/client-docs/bot-v3/add-custom-bot (`sign` in the body)
dingtalk    https://open.dingtalk.com/document/robots/custom-robot-access (`sign` in the address)
wecom       https://developer.work.weixin.qq.com/document/path/91770 (the address is the secret)
"""

import base64
import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from urllib.parse import quote

import msgspec

from app.reports.outbox import Notice

Format = Literal["json", "slack", "feishu", "dingtalk", "wecom"]
SENDER = "billing-proxy"
"""In each text: robots may be set to take only what has a word of their own."""


@dataclass(frozen=True, slots=True)
class Post:
    """`query`: what is appended to the address."""

    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    query: str = ""


def post_of(notice: Notice, *, id: str, at: datetime, now: float, format: Format, secret: str | None) -> Post:
    """`now`: seconds since 1970, which signatures hold."""
    text = f"[{SENDER}] {notice.text}"
    match format:
        case "json":
            fields = {"id": id, "at": at, "kind": notice.kind, "subject": notice.subject, "text": notice.text}
            body = msgspec.json.encode(fields)
            return Post(body, _standard_signature(body, id=id, now=now, secret=secret) if secret else {})
        case "slack":
            return _json({"text": _escaped_for_slack(text)})
        case "feishu":
            message: dict[str, Any] = {"msg_type": "text", "content": {"text": text}}
            if secret:
                seconds = str(int(now))
                message |= {"timestamp": seconds, "sign": _sign(key=f"{seconds}\n{secret}", said="")}
            return _json(message)
        case "dingtalk":
            post = _json({"msgtype": "text", "text": {"content": text}})
            if not secret:
                return post
            milliseconds = str(int(now * 1000))
            sign = quote(_sign(key=secret, said=f"{milliseconds}\n{secret}"), safe="")
            return Post(post.body, query=f"timestamp={milliseconds}&sign={sign}")
        case "wecom":
            return _json({"msgtype": "text", "text": {"content": text}})


def refusal_in(answer: bytes, format: Format) -> str | None:
    """Why a service took nothing that answered with 200 all the same."""
    if format not in ("feishu", "dingtalk", "wecom"):
        return None
    try:
        told = msgspec.json.decode(answer)
    except msgspec.MsgspecError:
        return None
    if not isinstance(told, dict):
        return None
    code = told.get("code") or told.get("errcode") or told.get("StatusCode")
    return f"code {str(code)[:20]}: {str(told.get('msg') or told.get('errmsg') or '')[:200]}" if code else None


def _json(message: dict[str, Any]) -> Post:
    return Post(msgspec.json.encode(message))


def _standard_signature(body: bytes, *, id: str, now: float, secret: str) -> dict[str, str]:
    seconds = str(int(now))
    signed = hmac.new(secret.encode(), f"{id}.{seconds}.".encode() + body, hashlib.sha256).digest()
    return {"webhook-id": id, "webhook-timestamp": seconds, "webhook-signature": f"v1,{base64.b64encode(signed).decode()}"}


def _sign(*, key: str, said: str) -> str:
    return base64.b64encode(hmac.new(key.encode(), said.encode(), hashlib.sha256).digest()).decode()


def _escaped_for_slack(text: str) -> str:
    """Else a name could mention everybody."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
