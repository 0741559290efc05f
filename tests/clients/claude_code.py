"""Claude Code, as it calls a gateway: https://code.claude.com/docs/en/llm-gateway-protocol, and captures in public issues.

It speaks Messages with `?beta=true`, a long list of betas, thinking, tools, cache marks on its system prompt and on the last
turn, and a `metadata.user_id` that holds its session. Before the first turn it asks for one token, to see whether it may."""

import json
from typing import Any

import httpx

from tests.harness.honest_anthropic import event

SESSION = "4f1c2d3e-0000-4000-8000-1234567890ab"
BETAS = (
    "claude-code-20250219,interleaved-thinking-2025-05-14,context-management-2025-06-27,prompt-caching-scope-2026-01-05,effort-2025-11-24"
)
HEADERS = {
    "accept": "application/json",
    "anthropic-beta": BETAS,
    "anthropic-version": "2023-06-01",
    "content-type": "application/json",
    "user-agent": "claude-cli/2.1.185 (external, cli)",
}
OF_THE_MACHINE = {
    "anthropic-dangerous-direct-browser-access": "true",
    "x-app": "cli",
    "x-claude-code-session-id": SESSION,
    "x-client-request-id": "0c3a3c0e-1111-4111-8111-abcdefabcdef",
    "x-stainless-lang": "js",
    "x-stainless-os": "Linux",
    "x-stainless-package-version": "0.94.0",
    "x-stainless-retry-count": "0",
    "x-stainless-timeout": "600",
}
"""What tells of the client alone, and need not reach the upstream."""
CACHED = {"cache_control": {"type": "ephemeral"}}
SYSTEM = [
    {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.185.a1b; cc_entrypoint=cli;"},
    {"type": "text", "text": "You are Claude Code.", **CACHED},
    {"type": "text", "text": "Tools, tone and \u00abenvironment\u00bb at length. " * 400, **CACHED},
]
TOOLS = [
    {
        "name": name,
        "description": f"How to use {name}. " * 20,
        "input_schema": {
            "type": "object",
            "properties": {field: {"type": "string"}},
            "required": [field],
            "additionalProperties": False,
            "$schema": "https://json-schema.org/draft/2020-12/schema",
        },
    }
    for name, field in (("Bash", "command"), ("Read", "file_path"))
]


class ClaudeCode:
    """`sent` holds the bodies, byte for byte, `turns` the conversation so far."""

    def __init__(self, url: str, key: str, *, model: str, small: str) -> None:
        self._http = httpx.Client(base_url=url, headers=HEADERS | OF_THE_MACHINE | {"x-api-key": key}, trust_env=False, timeout=20)
        self._model, self._small = model, small
        self.turns: list[dict[str, Any]] = []
        self.sent: list[bytes] = []

    def close(self) -> None:
        self._http.close()

    def probe(self) -> httpx.Response:
        return self._post({"model": self._small, "max_tokens": 1, "messages": [said("quota")], "metadata": METADATA})

    def title(self, prompt: str) -> httpx.Response:
        schema = {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"], "additionalProperties": False}
        asked = {"system": [SYSTEM[0], {"type": "text", "text": "Name this session."}], "tools": [], "temperature": 1, "max_tokens": 32000}
        form = {"output_config": {"format": {"type": "json_schema", "schema": schema}}}
        return self._post({"model": self._small, "messages": [said(prompt)], "metadata": METADATA, "stream": True, **asked, **form})

    def count(self) -> httpx.Response:
        return self._post({"model": self._model, "messages": [said("foo")], "tools": TOOLS}, "/v1/messages/count_tokens")

    def turn(self, content: Any) -> httpx.Response:
        self.turns.append({"role": "user", "content": content})
        body = {
            "model": self._model,
            "messages": [*self.turns[:-1], {"role": "user", "content": [*content[:-1], content[-1] | CACHED]}],
            "system": SYSTEM,
            "tools": TOOLS,
            "metadata": METADATA,
            "max_tokens": 32000,
            "thinking": {"type": "adaptive"},
            "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
            "output_config": {"effort": "medium"},
            "stream": True,
        }
        return self._post(body)

    def hears(self, blocks: list[dict[str, Any]]) -> None:
        self.turns.append({"role": "assistant", "content": blocks})

    def _post(self, body: dict[str, Any], path: str = "/v1/messages") -> httpx.Response:
        self.sent.append(json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode())
        return self._http.post(f"{path}?beta=true", content=self.sent[-1])


METADATA = {"user_id": json.dumps({"device_id": "ab" * 32, "account_uuid": "", "session_id": SESSION})}


def said(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def thinking(text: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": text, "signature": "EqQBCgIYAhIkNDk" * 8}


def use(number: int, name: str, **input: str) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_01A{number}", "name": name, "input": input}


def result(number: int, text: str) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": f"toolu_01A{number}", "content": text, "is_error": False}


def stream(model: str, blocks: list[dict[str, Any]], told: dict[str, Any]) -> list[bytes]:
    """The answer as Anthropic streams it; `told`: its usage."""
    head = {"id": "msg_01X", "type": "message", "role": "assistant", "model": model, "content": [], "stop_reason": None}
    started = told | {"output_tokens": 8, "service_tier": "standard", "inference_geo": "not_available"}
    events = [event("message_start", message=head | {"stop_sequence": None, "usage": started})]
    for index, block in enumerate(blocks):
        events.append(event("content_block_start", index=index, content_block=block | _EMPTY[block["type"]]))
        if index == 0:
            events.append(event("ping"))
        events += [event("content_block_delta", index=index, delta=delta) for delta in _deltas(block)]
        events.append(event("content_block_stop", index=index))
    stop = "tool_use" if blocks[-1]["type"] == "tool_use" else "end_turn"
    delta = {"stop_reason": stop, "stop_sequence": None}
    events.append(event("message_delta", delta=delta, usage=told, context_management={"applied_edits": []}))
    return [*events, event("message_stop")]


_EMPTY: dict[str, dict[str, Any]] = {"thinking": {"thinking": "", "signature": ""}, "text": {"text": ""}, "tool_use": {"input": {}}}


def _deltas(block: dict[str, Any]) -> list[dict[str, Any]]:
    match block["type"]:
        case "thinking":
            told = [{"type": "thinking_delta", "thinking": f"{word} "} for word in block["thinking"].split()]
            return [*told, {"type": "signature_delta", "signature": block["signature"]}]
        case "tool_use":
            written = json.dumps(block["input"])
            return [{"type": "input_json_delta", "partial_json": part} for part in ("", written[:5], written[5:])]
    return [{"type": "text_delta", "text": f"{word} "} for word in block["text"].split()]
