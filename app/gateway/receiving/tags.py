"""What a row keeps of who made a call beside its key: the tool, its session, the application, the client's own labels.

    client      the tool's name and version: the first word of `User-Agent`
    originator  Codex names the program that it runs in
    session     the tool's session, by the body or by a header
    thread      Codex: the conversation in it
    account     Claude Code: the account of its user
    referer, title   OpenRouter's headers for the application
    metadata    the request's own labels

Client text is bounded and cleaned, and left out where it holds the caller's key. It is told to operators and decides
nothing, save which of equal upstreams a session goes to (`order.py`).
"""

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from app.gateway.masking import clean
from app.gateway.protocols import CallRequest

LONGEST_TAG = 200
LONGEST_LABEL = 64
MOST_LABELS = 16
"""As many as OpenAI takes in `metadata`, under names as long."""

HEADERS = {
    b"user-agent": "client",
    b"originator": "originator",
    b"x-claude-code-session-id": "session",
    b"session_id": "session",  # Codex, which now writes `session-id`
    b"session-id": "session",
    b"x-session-id": "session",
    b"x-session-affinity": "session",  # opencode
    b"x-openwebui-chat-id": "session",
    b"helicone-session-id": "session",
    b"conversation_id": "thread",
    b"thread-id": "thread",
    b"http-referer": "referer",
    b"referer": "referer",
    b"x-title": "title",
    b"x-openrouter-title": "title",
    b"x-openwebui-user-id": "user",
    b"helicone-user-id": "user",
}
"""What headers tell; of two for the same, the first."""


def made_for(headers: Iterable[tuple[bytes, bytes]], request: CallRequest, *, key: str | None) -> tuple[str | None, dict[str, Any] | None]:
    """The end user, and tags. What the body tells goes before headers. `key`: the caller's."""
    found: dict[str, Any] = {}
    for name, value in headers:
        if name in HEADERS:
            found.setdefault(HEADERS[name], value.decode("latin-1"))
    if request.tags:
        found |= request.tags
    if "client" in found:
        found["client"] = found["client"].partition(" ")[0]
    if "referer" in found:
        found["referer"] = _without_query(found["referer"])
    sent_user = found.pop("user", None)
    end_user = request.end_user or sent_user
    tags = {name: kept for name, value in found.items() if (kept := _bounded(value, key))}
    return None if end_user and key and key in end_user else end_user, tags or None


def _bounded(value: object, key: str | None) -> Any:
    if isinstance(value, str):
        return None if not value or (key and key in value) else clean(value, LONGEST_TAG)
    if isinstance(value, dict):
        labels = [(clean(str(name), LONGEST_LABEL), _bounded(label, key)) for name, label in list(value.items())[:MOST_LABELS]]
        return {name: label for name, label in labels if name and isinstance(label, str) and not (key and key in name)}
    return str(value)[:LONGEST_TAG] if isinstance(value, bool | int | float) else None


def _without_query(url: str) -> str | None:
    """The page, without what may be secret: a name and password, a query, a fragment."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" if parts.netloc else parts.path
