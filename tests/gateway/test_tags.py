"""What rows keep of who made a call: as tools send it, bounded, cleaned, and never the key."""

import json
from typing import Any

import pytest

from app.gateway.protocols import NOTHING_MORE, PROTOCOLS, Asked, CallRequest
from app.gateway.receiving.tags import LONGEST_LABEL, LONGEST_TAG, MOST_LABELS, made_for

KEY = "sk-of-the-caller-0123456789"
DEVICE, ACCOUNT, SESSION = "ab" * 32, "7f3c9d34-2e5b-4a1e-9a57-0d6f0e7c1b2a", "11111111-2222-4333-8444-555555555555"
PROTOCOL = {protocol.path: protocol for protocol in PROTOCOLS}


def kept(path: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> tuple[str | None, dict[str, Any] | None]:
    asked = Asked(model="m") if "{model}" in path else NOTHING_MORE
    request = PROTOCOL[path].read(json.dumps(body).encode(), asked)
    return made_for([(name.encode(), value.encode()) for name, value in (headers or {}).items()], request, key=KEY)


def by_headers(**headers: str) -> tuple[str | None, dict[str, Any] | None]:
    sent = [(name.replace("__", "-").encode(), value.encode()) for name, value in headers.items()]
    return made_for(sent, CallRequest(body=b"", model="m"), key=KEY)


CHAT: dict[str, Any] = {"model": "m", "messages": []}
MESSAGE: dict[str, Any] = {"model": "m", "messages": [], "max_tokens": 1}


@pytest.mark.parametrize(
    ("path", "body", "end_user", "tags"),
    [
        ("/v1/chat/completions", CHAT | {"user": "u1"}, "u1", None),
        ("/v1/chat/completions", CHAT | {"user": "u1", "safety_identifier": "s1"}, "s1", None),
        ("/v1/chat/completions", CHAT | {"metadata": {"team": "a", "n": 3}}, None, {"metadata": {"team": "a", "n": "3"}}),
        ("/v1/chat/completions", CHAT | {"session_id": "s"}, None, {"session": "s"}),
        ("/v1/chat/completions", CHAT | {"user": 7, "metadata": [1], "session_id": {}}, None, None),
        ("/v1/responses", {"model": "m", "input": "x", "user": "u", "metadata": {"a": "b"}}, "u", {"metadata": {"a": "b"}}),
        ("/v1/completions", {"model": "m", "prompt": "x", "user": "u"}, "u", None),
        ("/v1/embeddings", {"model": "m", "input": "x", "user": "u"}, "u", None),
        ("/v1beta/models/{model}:generateContent", {"contents": [], "labels": {"a": "b"}}, None, {"metadata": {"a": "b"}}),
        ("/v1/messages", MESSAGE | {"metadata": {"user_id": "u9"}}, "u9", None),
        ("/v1/messages", MESSAGE | {"metadata": {"user_id": "{not json"}}, "{not json", None),
        ("/v1/messages", MESSAGE | {"metadata": {"user_id": None}}, None, None),
    ],
)
def test_bodies_tell(path: str, body: dict[str, Any], end_user: str | None, tags: dict[str, Any] | None) -> None:
    assert kept(path, body) == (end_user, tags)


@pytest.mark.parametrize("account", [ACCOUNT, ""])
@pytest.mark.parametrize("is_json", [False, True], ids=["before 2.1.78", "since 2.1.78"])
def test_claude_code_packs_three_ids_in_one(account: str, is_json: bool) -> None:
    packed = f"user_{DEVICE}_account_{account}_session_{SESSION}"
    if is_json:
        packed = json.dumps({"device_id": DEVICE, "account_uuid": account, "session_id": SESSION})

    end_user, tags = kept("/v1/messages", MESSAGE | {"metadata": {"user_id": packed}}, {"user-agent": "claude-cli/2.1.90 (external, cli)"})

    assert end_user == DEVICE
    assert tags == {"client": "claude-cli/2.1.90", "session": SESSION} | ({"account": account} if account else {})


def test_codex() -> None:
    older = by_headers(
        user__agent="codex_cli_rs/0.38.0 (Ubuntu 24.04)", originator="codex_cli_rs", session_id=SESSION, conversation_id="c1"
    )
    newer = by_headers(user__agent="codex-tui/0.159.3 (x)", originator="codex-tui", session__id=SESSION, thread__id="t1")

    assert older == (None, {"client": "codex_cli_rs/0.38.0", "originator": "codex_cli_rs", "session": SESSION, "thread": "c1"})
    assert newer == (None, {"client": "codex-tui/0.159.3", "originator": "codex-tui", "session": SESSION, "thread": "t1"})


@pytest.mark.parametrize(
    ("headers", "tags"),
    [
        ({"http-referer": "https://app.example/chat?token=secret#x"}, {"referer": "https://app.example/chat"}),
        ({"referer": "https://name:word@app.example/"}, {"referer": "https://app.example/"}),
        ({"referer": "http://[broken"}, None),
        ({"x-openrouter-title": "T"}, {"title": "T"}),
        ({"x-session-id": "s1", "x-session-affinity": "s2"}, {"session": "s1"}),
        ({"x-claude-code-session-id": SESSION}, {"session": SESSION}),
        ({"user-agent": "curl/8.4.0"}, {"client": "curl/8.4.0"}),
        ({"cookie": "a=b", "authorization": f"Bearer {KEY}"}, None),
    ],
)  # fmt: skip
def test_headers_tell(headers: dict[str, str], tags: dict[str, Any] | None) -> None:
    assert kept("/v1/chat/completions", CHAT, headers) == (None, tags)


def test_a_front_end_names_its_user() -> None:
    assert by_headers(x__openwebui__user__id="u1", x__openwebui__chat__id="c1") == ("u1", {"session": "c1"})
    assert kept("/v1/chat/completions", CHAT | {"user": "of the body"}, {"helicone-user-id": "u2"}) == ("of the body", None)


def test_all_of_it_is_bounded() -> None:
    many = {f"{at}" + "n" * 999: "v" * 9999 for at in range(99)}

    _, tags = kept("/v1/chat/completions", CHAT | {"metadata": many}, {"user-agent": "a" * 9999, "x-title": "t" * 9999})

    assert tags is not None
    assert len(tags["client"]) == len(tags["title"]) == LONGEST_TAG
    assert len(tags["metadata"]) == MOST_LABELS
    assert all((len(name), len(value)) == (LONGEST_LABEL, LONGEST_TAG) for name, value in tags["metadata"].items())
    assert len(json.dumps(tags)) < 8000


def test_what_no_database_takes_is_taken_out() -> None:
    told = {"session": "a\0", "metadata": {"a\0": "b\0c", "d": "\ud800", "e": "\0"}}

    _, tags = made_for([], CallRequest(body=b"", model="m", tags=told), key=KEY)

    assert tags == {"session": "a", "metadata": {"a": "bc", "d": "?", "e": ""}}


def test_the_key_is_kept_nowhere() -> None:
    told = CHAT | {"user": KEY, "session_id": f"x{KEY}", "metadata": {"auth": f"Bearer {KEY}", KEY: "a", "b": "c"}}

    end_user, tags = kept("/v1/chat/completions", told, {"x-title": KEY, "user-agent": f"tool/{KEY}", "referer": f"https://x/{KEY}"})

    assert (end_user, tags) == (None, {"metadata": {"b": "c"}})
