"""The small honest model that the stand-in plays unless told otherwise: it echoes, and a token is a word.

It speaks `/v1/chat/completions` (tools, JSON schema, `n`, output limits, streams), `/v1/completions`, `/v1/embeddings`
and `/v1/models`, and reports usage as OpenAI does: in a stream only when `stream_options.include_usage` asks for it.

Media (`honest_media`) and reranking are no model's words, and stay out of the ledger.

Of `/v1/responses`, `/v1/messages` and Gemini it speaks tools, output limits, streams and reasoning; each has a module that
reads its requests and shapes its answers. What those count of a request is free and stays out of the ledger.
"""

import base64
import json
import struct
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from tests.harness import honest_anthropic, honest_gemini, honest_media, honest_responses
from tests.harness.answers import Answer, Usage, sse

_PER_MESSAGE = 3
_STREAM = {"content-type": "text/event-stream; charset=utf-8"}


def reply(path: str, body: bytes, query: Mapping[str, str] | None = None) -> Answer:
    """`query`: the URL's. None: it isn't known, and Gemini streams as with `alt=sse`."""
    route = path.partition("?")[0]
    if protocol := _protocol(route):
        try:
            return _speak(protocol, route, json.loads(body), query)
        except (ValueError, TypeError, KeyError, AttributeError, IndexError) as unfit:
            return _unfit(protocol, unfit)
    if route.endswith("/models"):
        return _json({"object": "list", "data": [{"id": "stand-in", "object": "model", "created": 1, "owned_by": "us"}]})
    spoken = {"/chat/completions": _chat, "/completions": _completion, "/embeddings": _embeddings}
    speak = next((spoken[ending] for ending in spoken if route.endswith(ending)), None)
    if speak is None and not honest_media.speaks(route):
        return _error(404, f"the stand-in has no {route}", "not_found")
    try:
        return speak(json.loads(body)) if speak else honest_media.reply(route, body)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as unfit:
        return _error(400, f"the stand-in can't read this: {unfit!r}", "invalid_request_error")


def _unfit(protocol: ModuleType, unfit: Exception) -> Answer:
    said = f"the stand-in can't read this: {unfit!r}"
    if protocol is honest_responses:  # whose errors are OpenAI's
        return _error(400, said, "invalid_request_error")
    return Answer(pieces=[json.dumps(protocol.error(400, said)).encode()], status=400)


def _protocol(route: str) -> ModuleType | None:
    """The module that knows it; None for OpenAI's older ones."""
    if route.endswith(("/responses", "/responses/input_tokens")):
        return honest_responses
    if route.endswith(("/messages", "/messages/count_tokens")):
        return honest_anthropic
    return honest_gemini if ":" in route.rpartition("/")[2] else None


def _speak(protocol: ModuleType, route: str, request: dict[str, Any], query: Mapping[str, str] | None) -> Answer:
    action = route.replace(":", "/").rpartition("/")[2]
    if action in ("embedContent", "batchEmbedContents"):
        return _gemini_embeddings(request, is_batch=action == "batchEmbedContents")
    prompt = protocol.texts(request)
    usage_input = sum(_PER_MESSAGE + len(text.split()) for text in prompt)
    if action == "countTokens":
        return _json({"totalTokens": usage_input})
    if action in ("count_tokens", "input_tokens"):
        named = {"object": "response.input_tokens"} if action == "input_tokens" else {}
        return _json(named | {"input_tokens": usage_input})
    tool = protocol.tool(request)
    call = (tool[0], _instance(tool[1])) if tool else None
    whole = (json.dumps(call[1]) if call else "You said " + prompt[-1]).split(" ")
    words = whole if call else whole[: protocol.limit(request)]
    thoughts = protocol.thoughts(request)
    usage = Usage(input=usage_input, output=len(words) + thoughts, reasoning=thoughts)
    said = {"words": words, "call": call, "is_cut": len(words) < len(whole), "usage": usage}
    if action == "streamGenerateContent" and query is not None and query.get("alt") != "sse":
        return Answer(pieces=honest_gemini.array(request, **said), framing="chunked", usage=usage)
    if action == "streamGenerateContent" or request.get("stream"):
        return Answer(pieces=protocol.events(request, **said), framing="chunked", headers=_STREAM, usage=usage)
    return _json(protocol.whole(request, **said), usage)


def _gemini_embeddings(request: dict[str, Any], *, is_batch: bool) -> Answer:
    texts = [honest_gemini.texts({"contents": [one["content"]]})[0] for one in (request["requests"] if is_batch else [request])]
    usage = Usage(input=sum(len(text.split()) for text in texts))
    embeddings = [{"values": [0.25, -0.5, 0.25, -0.5]} for _ in texts]
    told = {"embeddings": embeddings} if is_batch else {"embedding": embeddings[0]}
    return _json(told | {"usageMetadata": {"promptTokenCount": usage.input}}, usage)


def _chat(request: dict[str, Any]) -> Answer:
    prompt = [_text(message.get("content")) for message in request["messages"]]
    usage_input = sum(_PER_MESSAGE + len(text.split()) for text in prompt)
    limit = request.get("max_completion_tokens") or request.get("max_tokens")
    call = _tool_call(request)
    text = json.dumps(call["function"]["arguments"]) if call else _said(request, prompt[-1])
    words = text.split(" ")[:limit]
    finish = "tool_calls" if call else "length" if len(words) < len(text.split(" ")) else "stop"
    choices = request.get("n") or 1
    usage = Usage(input=usage_input, output=len(words) * choices)
    head = {"id": "chatcmpl-standin", "created": 1_700_000_000, "model": request["model"], "system_fingerprint": "fp_1"}
    if request.get("stream"):
        return _chat_stream(request, head, words, call, finish, choices, usage)
    message = {"role": "assistant", "content": None if call else " ".join(words), "refusal": None}
    if call:
        message["tool_calls"] = [call]
    body = head | {
        "object": "chat.completion",
        "choices": [{"index": i, "message": message, "logprobs": None, "finish_reason": finish} for i in range(choices)],
        "usage": usage.chat(),
    }
    return _json(body, usage)


def _chat_stream(
    request: dict[str, Any],
    head: dict[str, Any],
    words: list[str],
    call: dict[str, Any] | None,
    finish: str,
    choices: int,
    usage: Usage,
) -> Answer:
    asked = bool((request.get("stream_options") or {}).get("include_usage"))
    chunk = head | {"object": "chat.completion.chunk"} | ({"usage": None} if asked else {})
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None if call else ""}]
    if call:
        arguments = call["function"]["arguments"]
        start = call | {"index": 0, "function": call["function"] | {"arguments": ""}}
        parts = (arguments[:3], arguments[3:])
        deltas += [{"tool_calls": [start]}]
        deltas += [{"tool_calls": [{"index": 0, "function": {"arguments": part}}]} for part in parts]
    else:
        deltas += [{"content": word if at == 0 else " " + word} for at, word in enumerate(words)]
    events = [
        chunk | {"choices": [{"index": index, "delta": delta, "logprobs": None, "finish_reason": None}]}
        for delta in deltas
        for index in range(choices)
    ]
    events += [chunk | {"choices": [{"index": i, "delta": {}, "finish_reason": finish}]} for i in range(choices)]
    if asked:
        events.append(chunk | {"choices": [], "usage": usage.chat()})
    pieces = [*map(sse, events), sse("[DONE]")]
    return Answer(pieces=pieces, framing="chunked", headers=_STREAM, usage=usage)


def _completion(request: dict[str, Any]) -> Answer:
    prompt = request["prompt"] if isinstance(request["prompt"], str) else " ".join(request["prompt"])
    words = ("You said " + prompt).split(" ")[: request.get("max_tokens") or 16]
    usage = Usage(input=len(prompt.split()), output=len(words))
    choice = {"index": 0, "text": " ".join(words), "logprobs": None, "finish_reason": "stop"}
    head = {"id": "cmpl-1", "object": "text_completion", "created": 1_700_000_000, "model": request["model"]}
    return _json(head | {"choices": [choice], "usage": usage.chat()}, usage)


def _embeddings(request: dict[str, Any]) -> Answer:
    inputs = [request["input"]] if isinstance(request["input"], str) else request["input"]
    vector = [0.25, -0.5] * (int(request.get("dimensions") or 8) // 2)
    packed = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    value = packed if request.get("encoding_format") == "base64" else vector
    data = [{"object": "embedding", "index": index, "embedding": value} for index in range(len(inputs))]
    usage = Usage(input=sum(len(text.split()) for text in inputs))
    counts = {"prompt_tokens": usage.input, "total_tokens": usage.input}
    return _json({"object": "list", "data": data, "model": request["model"], "usage": counts}, usage)


def _said(request: dict[str, Any], prompt: str) -> str:
    form = request.get("response_format") or {}
    if form.get("type") == "json_schema":
        return json.dumps(_instance(form["json_schema"]["schema"]))
    return "You said " + prompt


def _tool_call(request: dict[str, Any]) -> dict[str, Any] | None:
    if not request.get("tools") or request.get("tool_choice") == "none":
        return None
    function = request["tools"][0]["function"]
    arguments = json.dumps(_instance(function.get("parameters") or {"type": "object"}))
    return {"id": "call_1", "type": "function", "function": {"name": function["name"], "arguments": arguments}}


def _instance(schema: dict[str, Any]) -> Any:
    """The least value that the schema allows."""
    if "enum" in schema:
        return schema["enum"][0]
    kind = str(schema.get("type", "object")).lower()  # Gemini's are in capitals
    if kind == "object":
        return {name: _instance(part) for name, part in (schema.get("properties") or {}).items()}
    return {"string": "some text", "integer": 7, "number": 1.5, "boolean": True, "array": []}.get(kind)


def _text(content: Any) -> str:
    if isinstance(content, list):
        return " ".join(part.get("text", "") for part in content)
    return content or ""


def _json(body: dict[str, Any], usage: Usage | None = None) -> Answer:
    return Answer(pieces=[json.dumps(body, ensure_ascii=False).encode()], usage=usage)


def _error(status: int, message: str, kind: str) -> Answer:
    error = {"error": {"message": message, "type": kind, "param": None, "code": kind}}
    return Answer(pieces=[json.dumps(error).encode()], status=status)
