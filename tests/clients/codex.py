"""Codex, as its source has it (github.com/openai/codex: `codex-rs/codex-api/src/common.rs`, `endpoint/`, `requests/`).

Every turn is a streamed response that is not stored: the whole conversation goes up each time, with the reasoning encrypted,
under one `prompt_cache_key`. What the upstream says in `X-Codex-Turn-State` comes back to it with the next call of the same
turn. Newer releases compress requests with zstd, try a WebSocket first (`endpoint/responses_websocket.rs`), and go on with HTTP
where that is answered with 426. A conversation that grows too long is compacted (`endpoint/compact.rs`)."""

import json
from typing import Any

import httpx
import zstandard

from tests.harness.answers import Usage
from tests.harness.honest_responses import event, response

SESSION = "0199a213-81c0-7800-8aa1-bbab2a035a53"
HEADERS = {
    "accept": "text/event-stream",
    "content-type": "application/json",
    "openai-beta": "responses=experimental",
    "user-agent": "codex_cli_rs/0.101.0 (Debian 12.0.0; x86_64) xterm",
}
OF_THE_MACHINE = {
    "originator": "codex_cli_rs",
    "version": "0.101.0",
    "session_id": SESSION,
    "conversation_id": SESSION,
    "chatgpt-account-id": "acct_of_the_client",
    "x-codex-beta-features": "none",
}
"""What tells of the client alone, and stays here."""
HANDSHAKE = {
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    "openai-beta": "responses_websockets=2026-02-06",
}
TURN_STATE = "x-codex-turn-state"
INSTRUCTIONS = "You are Codex, based on a model. " + "How to work, and \u00abstyle\u00bb. " * 300
TOOLS = [
    {
        "type": "function",
        "name": "exec_command",
        "description": "Runs a command.",
        "strict": False,
        "parameters": {"type": "object", "properties": {"cmd": {"type": "string"}}, "required": ["cmd"], "additionalProperties": False},
    },
    {
        "type": "custom",
        "name": "apply_patch",
        "description": "Edits files.",
        "format": {"type": "grammar", "syntax": "lark", "definition": 'start: "*** Begin Patch" LF hunk+ "*** End Patch" LF?'},
    },
]


class Codex:
    """`sent` holds the bodies before they are compressed, `items` the conversation so far."""

    def __init__(self, url: str, key: str, *, model: str) -> None:
        headers = HEADERS | OF_THE_MACHINE | {"authorization": f"Bearer {key}"}
        self._http = httpx.Client(base_url=f"{url}/v1", headers=headers, trust_env=False, timeout=20)
        self._model = model
        self.items: list[dict[str, Any]] = [
            message("developer", "<permissions instructions>..."),
            message("user", "<environment_context>...</environment_context>"),
        ]
        self.sent: list[bytes] = []
        self._turn_state: str | None = None

    def close(self) -> None:
        self._http.close()

    def models(self) -> httpx.Response:
        return self._http.get("/models", params={"client_version": "0.101.0"})

    def handshake(self) -> httpx.Response:
        """Of a WebSocket, before the first turn."""
        return self._http.get("/responses", headers=HANDSHAKE)

    def compact(self) -> httpx.Response:
        """Puts what comes back in the place of the conversation."""
        body = {
            "model": self._model,
            "input": self.items,
            "instructions": INSTRUCTIONS,
            "tools": TOOLS,
            "parallel_tool_calls": True,
            "reasoning": {"effort": "medium", "summary": "auto"},
            "text": {"verbosity": "low"},
        }
        self.sent.append(json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode())
        answer = self._http.post("/responses/compact", content=self.sent[-1])
        self.items = answer.json()["output"]
        return answer

    def turn(self, item: dict[str, Any], *, compressed: bool = False) -> httpx.Response:
        if item["type"] == "message":
            self._turn_state = None
        self.items.append(item)
        body = {
            "model": self._model,
            "instructions": INSTRUCTIONS,
            "input": self.items,
            "tools": TOOLS,
            "tool_choice": "auto",
            "parallel_tool_calls": True,
            "reasoning": {"effort": "medium", "summary": "auto"},
            "store": False,
            "stream": True,
            "include": ["reasoning.encrypted_content"],
            "prompt_cache_key": SESSION,
            "text": {"verbosity": "low"},
            "client_metadata": {"x-codex-installation-id": "7e1b"},
        }
        self.sent.append(json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode())
        headers = {TURN_STATE: self._turn_state} if self._turn_state else {}
        headers |= {"content-encoding": "zstd"} if compressed else {}
        content = zstandard.compress(self.sent[-1]) if compressed else self.sent[-1]
        answer = self._http.post("/responses", content=content, headers=headers)
        self._turn_state = self._turn_state or answer.headers.get(TURN_STATE)
        return answer

    def hears(self, items: list[dict[str, Any]]) -> None:
        """Sends back what the model said without its ids, as nothing is stored."""
        self.items += [{name: value for name, value in item.items() if name not in ("id", "status")} for item in items]


def message(role: str, text: str) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": [{"type": "output_text" if role == "assistant" else "input_text", "text": text}]}


def reasoning(number: int) -> dict[str, Any]:
    summary = [{"type": "summary_text", "text": "**Looking**"}]
    return {"id": f"rs_{number}", "type": "reasoning", "summary": summary, "encrypted_content": "gAAAAABo" * 40}


def call(number: int, cmd: str) -> dict[str, Any]:
    told = {"type": "function_call", "status": "completed", "name": "exec_command", "arguments": json.dumps({"cmd": cmd})}
    return {"id": f"fc_{number}", "call_id": f"call_{number}", **told}


def patch(number: int, text: str) -> dict[str, Any]:
    told = {"type": "custom_tool_call", "status": "completed", "name": "apply_patch", "input": text}
    return {"id": f"ctc_{number}", "call_id": f"call_{number}", **told}


def stream(model: str, items: list[dict[str, Any]], usage: Usage) -> list[bytes]:
    """The answer as OpenAI streams it."""
    request = {"model": model}
    told: list[tuple[str, dict[str, Any]]] = [(f"response.{name}", {"response": response(request)}) for name in ("created", "in_progress")]
    for index, item in enumerate(items):
        told.append(("response.output_item.added", {"output_index": index, "item": item | _UNSAID[item["type"]]}))
        told += [(name, {"item_id": item.get("id", "msg_1"), "output_index": index, **fields}) for name, fields in _deltas(item)]
        told.append(("response.output_item.done", {"output_index": index, "item": item}))
    told.append(("response.completed", {"response": response(request, "completed", output=items, usage=usage)}))
    return [event(name, number, **fields) for number, (name, fields) in enumerate(told)]


_UNSAID: dict[str, dict[str, Any]] = {
    "reasoning": {"summary": [], "encrypted_content": "gAAAAABo"},
    "function_call": {"arguments": "", "status": "in_progress"},
    "custom_tool_call": {"input": "", "status": "in_progress"},
    "message": {"content": [], "status": "in_progress"},
}


def _deltas(item: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    match item["type"]:
        case "reasoning":
            text = item["summary"][0]["text"]
            at = {"summary_index": 0}
            part = ("response.reasoning_summary_part.added", at | {"part": {"type": "summary_text", "text": ""}})
            return [part, ("response.reasoning_summary_text.delta", at | {"delta": text, "obfuscation": "x7Q"})]
        case "function_call":
            return _pieces("response.function_call_arguments", "arguments", item["arguments"])
        case "custom_tool_call":
            return _pieces("response.custom_tool_call_input", "input", item["input"])
    return _pieces("response.output_text", "text", item["content"][0]["text"])


def _pieces(name: str, field: str, text: str) -> list[tuple[str, dict[str, Any]]]:
    deltas = [(f"{name}.delta", {"delta": part, "obfuscation": "a9"}) for part in (text[:4], text[4:])]
    return [*deltas, (f"{name}.done", {field: text})]
