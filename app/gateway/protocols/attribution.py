"""For whom, and in which session, a call is made, as far as its body tells: ids that clients send for their own accounting.

OpenAI: `safety_identifier`, `user`, `metadata` (strings by name); OpenRouter beside these `session_id`. Anthropic:
`metadata.user_id`, in which Claude Code packs three: `user_<hash>_account_<uuid>_session_<uuid>`, the account empty where
it is none of Anthropic's, and since 2.1.78 a JSON text of `device_id`, `account_uuid` and `session_id`.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from app.gateway.protocols.reports import UNREADABLE

_PACKED = re.compile(r"user_([0-9a-f]+)_account_([0-9a-f-]*)_session_([0-9a-f-]+)", re.ASCII)


class _Packed(msgspec.Struct):
    device_id: str = ""
    account_uuid: str = ""
    session_id: str = ""


_packed = msgspec.json.Decoder(_Packed)


def first_text(*values: object) -> str | None:
    return next((value for value in values if isinstance(value, str) and value), None)


def told(*, session: object = None, metadata: object = None) -> dict[str, Any] | None:
    """The tags of a request. They come as the client wrote them: `gateway.tags` bounds them."""
    tags: dict[str, Any] = {}
    if isinstance(session, str) and session:
        tags["session"] = session
    if isinstance(metadata, dict) and metadata:
        tags["metadata"] = metadata
    return tags or None


def of_anthropic(user_id: object) -> tuple[str | None, Mapping[str, Any] | None]:
    """The end user, and tags."""
    if not isinstance(user_id, str):
        return None, None
    if found := _PACKED.fullmatch(user_id):
        device, account, session = found.groups()
    elif user_id.startswith("{"):
        try:
            packed = _packed.decode(user_id)
        except UNREADABLE:
            return user_id, None
        device, account, session = packed.device_id, packed.account_uuid, packed.session_id
    else:
        return user_id, None
    tags = {name: value for name, value in (("session", session), ("account", account)) if value}
    return device or account or user_id, tags
