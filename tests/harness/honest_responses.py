"""How the honest model reads and speaks OpenAI's Responses: https://platform.openai.com/docs/api-reference/responses."""

import json
from typing import Any

from tests.harness.answers import Usage

THOUGHTS = 6
"""Tokens that the model reasons, where it is told how hard."""

Call = tuple[str, Any]


def texts(request: dict[str, Any]) -> list[str]:
    """Of the instructions, where there are any, and of every item of the input."""
    given = request["input"]
    items = [given] if isinstance(given, str) else [_text(item.get("content") or item.get("output") or "") for item in given]
    return [text for text in (request.get("instructions"), *items) if text]


def limit(request: dict[str, Any]) -> int | None:
    return request.get("max_output_tokens")


def tool(request: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """Name and schema of the function to call; None once its output is there."""
    given = request["input"]
    if not request.get("tools") or (isinstance(given, list) and given[-1].get("type") == "function_call_output"):
        return None
    return request["tools"][0]["name"], request["tools"][0]["parameters"]


def thoughts(request: dict[str, Any]) -> int:
    return THOUGHTS if (request.get("reasoning") or {}).get("effort") else 0


def whole(request: dict[str, Any], *, words: list[str], call: Call | None, is_cut: bool, usage: Usage) -> dict[str, Any]:
    item = _calling(call) if call else message(" ".join(words))
    return response(request, "incomplete" if is_cut else "completed", output=[item], usage=usage)


def events(request: dict[str, Any], *, words: list[str], call: Call | None, is_cut: bool, usage: Usage) -> list[bytes]:
    """The last one holds the whole response."""
    text = " ".join(words)
    told = [("response.created", {"response": response(request)}), ("response.in_progress", {"response": response(request)})]
    told += _call_events(call) if call else _text_events(words, text)
    ended = whole(request, words=words, call=call, is_cut=is_cut, usage=usage)
    told += [(f"response.{ended['status']}", {"response": ended})]
    return [event(name, number, **fields) for number, (name, fields) in enumerate(told)]


def event(type: str, number: int, **fields: Any) -> bytes:
    told = {"type": type, "sequence_number": number, **fields}
    return f"event: {type}\ndata: {json.dumps(told, ensure_ascii=False)}\n\n".encode()


def response(
    request: dict[str, Any],
    status: str = "in_progress",
    *,
    output: list[dict[str, Any]] | None = None,
    usage: Usage | None = None,
    error: dict[str, str] | None = None,
) -> dict[str, Any]:
    return {
        "id": "resp_standin",
        "object": "response",
        "created_at": 1_700_000_000,
        "status": status,
        "model": request["model"],
        "output": output or [],
        "error": error,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": request.get("instructions"),
        "metadata": {},
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": request.get("tools") or [],
        "usage": usage and counts(usage),
    }


def counts(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": 0},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.input + usage.output,
    }


def _text_events(words: list[str], text: str) -> list[tuple[str, dict[str, Any]]]:
    at = {"output_index": 0, "content_index": 0, "item_id": "msg_standin"}
    empty, part = [{"type": "output_text", "text": one, "annotations": [], "logprobs": []} for one in ("", text)]
    deltas = [word if index == 0 else " " + word for index, word in enumerate(words)]
    return [
        ("response.output_item.added", {"output_index": 0, "item": message(None)}),
        ("response.content_part.added", at | {"part": empty}),
        *(("response.output_text.delta", at | {"delta": delta, "logprobs": []}) for delta in deltas),
        ("response.output_text.done", at | {"text": text, "logprobs": []}),
        ("response.content_part.done", at | {"part": part}),
        ("response.output_item.done", {"output_index": 0, "item": message(text)}),
    ]


def _call_events(call: Call) -> list[tuple[str, dict[str, Any]]]:
    item = _calling(call)
    arguments = item["arguments"]
    at = {"output_index": 0, "item_id": item["id"]}
    return [
        ("response.output_item.added", {"output_index": 0, "item": item | {"arguments": "", "status": "in_progress"}}),
        *(("response.function_call_arguments.delta", at | {"delta": part}) for part in (arguments[:3], arguments[3:])),
        ("response.function_call_arguments.done", at | {"arguments": arguments, "name": item["name"]}),
        ("response.output_item.done", {"output_index": 0, "item": item}),
    ]


def message(text: str | None, *, id: str = "msg_standin") -> dict[str, Any]:
    """None: it has just begun."""
    content = [] if text is None else [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]
    status = "in_progress" if text is None else "completed"
    return {"id": id, "type": "message", "role": "assistant", "status": status, "content": content}


def _calling(call: Call) -> dict[str, Any]:
    told = {"id": "fc_standin", "type": "function_call", "status": "completed", "call_id": "call_standin"}
    return told | {"name": call[0], "arguments": json.dumps(call[1])}


def _text(content: Any) -> str:
    return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)
