"""How the honest model reads and speaks Anthropic's Messages: https://docs.anthropic.com/en/api/messages."""

import json
from typing import Any

from tests.harness.answers import Usage

Call = tuple[str, Any]


def texts(request: dict[str, Any]) -> list[str]:
    """Of the system prompt, where there is one, and of every turn."""
    return [_text(content) for content in (request.get("system"), *(turn["content"] for turn in request["messages"])) if content]


def limit(request: dict[str, Any]) -> int | None:
    return request.get("max_tokens")


def tool(request: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """Name and schema of the tool to call; None once its result is there."""
    last = request["messages"][-1]["content"]
    if not request.get("tools") or (isinstance(last, list) and last[-1]["type"] == "tool_result"):
        return None
    return request["tools"][0]["name"], request["tools"][0]["input_schema"]


def thoughts(request: dict[str, Any]) -> int:
    return 0


def whole(request: dict[str, Any], *, words: list[str], call: Call | None, is_cut: bool, usage: Usage) -> dict[str, Any]:
    block = _use(call) | {"input": call[1]} if call else {"type": "text", "text": " ".join(words)}
    return _head(request) | {"content": [block], "stop_reason": _stop(call, is_cut), "stop_sequence": None, "usage": counts(usage)}


def events(request: dict[str, Any], *, words: list[str], call: Call | None, is_cut: bool, usage: Usage) -> list[bytes]:
    """The first event tells the input and one token of output, the one before the last all output."""
    start = _head(request) | {"content": [], "stop_reason": None, "stop_sequence": None, "usage": counts(usage) | {"output_tokens": 1}}
    if call:
        told = json.dumps(call[1])
        block: dict[str, Any] = _use(call) | {"input": {}}
        deltas = [{"type": "input_json_delta", "partial_json": part} for part in (told[:3], told[3:])]
    else:
        block = {"type": "text", "text": ""}
        deltas = [{"type": "text_delta", "text": word if at == 0 else " " + word} for at, word in enumerate(words)]
    told_last = {"delta": {"stop_reason": _stop(call, is_cut), "stop_sequence": None}, "usage": {"output_tokens": usage.output}}
    return [
        event("message_start", message=start),
        event("content_block_start", index=0, content_block=block),
        event("ping"),
        *(event("content_block_delta", index=0, delta=delta) for delta in deltas),
        event("content_block_stop", index=0),
        event("message_delta", **told_last),
        event("message_stop"),
    ]


def event(type: str, **fields: Any) -> bytes:
    return f"event: {type}\ndata: {json.dumps({'type': type, **fields}, ensure_ascii=False)}\n\n".encode()


def counts(usage: Usage, *, written: int = 0, for_an_hour: int = 0) -> dict[str, Any]:
    """`written`: of the input, what went to the cache; `for_an_hour`: of that, what stays there so long."""
    return {
        "input_tokens": usage.input - usage.cached - written,
        "cache_read_input_tokens": usage.cached,
        "cache_creation_input_tokens": written,
        "cache_creation": {"ephemeral_5m_input_tokens": written - for_an_hour, "ephemeral_1h_input_tokens": for_an_hour},
        "output_tokens": usage.output,
        "service_tier": "standard",
    }


def error(status: int, message: str) -> dict[str, Any]:
    kind = {400: "invalid_request_error", 404: "not_found_error"}.get(status, "api_error")
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_standin"}


def _head(request: dict[str, Any]) -> dict[str, Any]:
    return {"id": "msg_standin", "type": "message", "role": "assistant", "model": request["model"]}


def _use(call: Call) -> dict[str, Any]:
    return {"type": "tool_use", "id": "toolu_standin", "name": call[0]}


def _stop(call: Call | None, is_cut: bool) -> str:
    return "tool_use" if call else "max_tokens" if is_cut else "end_turn"


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return " ".join(block.get("text") or _text(block.get("content") or "") for block in content)
