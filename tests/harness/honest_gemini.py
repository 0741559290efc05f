"""How the honest model reads and speaks Gemini: https://ai.google.dev/api/generate-content."""

import json
from typing import Any

from tests.harness.answers import Usage

THOUGHTS = 4
"""Tokens that the model thinks, where it is told to."""

Call = tuple[str, Any]


def texts(request: dict[str, Any]) -> list[str]:
    """Of the system instruction, where there is one, and of every turn."""
    return [_text(content) for content in (request.get("systemInstruction"), *request["contents"]) if content]


def limit(request: dict[str, Any]) -> int | None:
    return _config(request).get("maxOutputTokens")


def tool(request: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """Name and schema of the function to call; None once its result is there."""
    declared = [function for one in request.get("tools") or [] for function in one.get("functionDeclarations") or []]
    if not declared or "functionResponse" in request["contents"][-1]["parts"][-1]:
        return None
    schemas = (declared[0].get(name) for name in ("parametersJsonSchema", "parameters_json_schema", "parameters"))
    return declared[0]["name"], next(filter(None, schemas), {})


def thoughts(request: dict[str, Any]) -> int:
    return THOUGHTS if _config(request).get("thinkingConfig") else 0


def whole(request: dict[str, Any], *, words: list[str], call: Call | None, is_cut: bool, usage: Usage) -> dict[str, Any]:
    told = [_thought(usage)] if usage.reasoning else []
    told.append(_calling(call) if call else {"text": " ".join(words)})
    return _answer(told, counts(usage), finish="MAX_TOKENS" if is_cut else "STOP")


def chunks(request: dict[str, Any], *, words: list[str], call: Call | None, is_cut: bool, usage: Usage) -> list[dict[str, Any]]:
    """One a word. Each tells the usage so far, the last one why the answer ends."""
    parts = [_calling(call)] if call else [{"text": word if at == 0 else " " + word} for at, word in enumerate(words)]
    spoken = usage.output - usage.reasoning
    parts = [_thought(usage), *parts] if usage.reasoning else parts
    unspoken = len(parts) - spoken
    so_far = [Usage(usage.input, usage.reasoning + max(at + 1 - unspoken, 0), usage.cached, usage.reasoning) for at in range(len(parts))]
    last = len(parts) - 1
    return [
        _answer([part], counts(usage if at == last else so_far[at]), finish=("MAX_TOKENS" if is_cut else "STOP") if at == last else None)
        for at, part in enumerate(parts)
    ]


def events(request: dict[str, Any], **said: Any) -> list[bytes]:
    return [event(chunk) for chunk in chunks(request, **said)]


def array(request: dict[str, Any], **said: Any) -> list[bytes]:
    """The stream without `alt=sse`: the pieces of one JSON array, an element each."""
    told = [json.dumps(chunk, indent=2).encode() for chunk in chunks(request, **said)]
    return [(b"[" if at == 0 else b",\r\n") + one + (b"]" if at == len(told) - 1 else b"") for at, one in enumerate(told)]


def event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\r\n\r\n"


def counts(usage: Usage) -> dict[str, Any]:
    """As Google leaves out what is nothing."""
    told = {
        "promptTokenCount": usage.input,
        "candidatesTokenCount": usage.output - usage.reasoning,
        "thoughtsTokenCount": usage.reasoning,
        "cachedContentTokenCount": usage.cached,
        "totalTokenCount": usage.input + usage.output,
    }
    return {name: count for name, count in told.items() if count}


def error(status: int, message: str) -> dict[str, Any]:
    told = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND"}.get(status, "INTERNAL")
    return {"error": {"code": status, "message": message, "status": told}}


def _answer(parts: list[dict[str, Any]], usage: dict[str, Any], *, finish: str | None) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "stand-in", "responseId": "response-standin"}


def _thought(usage: Usage) -> dict[str, Any]:
    return {"text": " ".join(["hm"] * usage.reasoning), "thought": True}


def _calling(call: Call) -> dict[str, Any]:
    return {"functionCall": {"name": call[0], "args": call[1]}}


def _config(request: dict[str, Any]) -> dict[str, Any]:
    return request.get("generationConfig") or {}


def _text(content: dict[str, Any]) -> str:
    return " ".join(part.get("text") or json.dumps(part) for part in content["parts"])
