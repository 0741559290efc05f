"""`demo-echo`: a model that repeats what it was told, so that a first call needs no account anywhere.

It speaks OpenAI's chat protocol, streamed too, and counts honestly: a token is a word with the white space after it.
The proxy serves it on loopback, as an upstream like any other; the bearer token keeps strangers out.
"""

import asyncio
import hmac
import json
import re
import time
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

MODEL = "demo-echo"
PATH = "/internal/demo"
"""Where the proxy serves it: no other upstream has a base URL that ends so."""
PAUSE = 0.02
"""Seconds between two tokens of a stream, so that one sees it stream."""
_TOKEN = re.compile(r"\s*\S+|\s+")


def demo_app(token: str) -> Starlette:
    """The model's server. `token`: what a caller has to present."""

    async def chat(request: Request) -> Response:
        if not hmac.compare_digest(request.headers.get("authorization", "").encode(), f"Bearer {token}".encode()):
            return JSONResponse({"error": {"message": "The demo model is for this proxy alone.", "type": "invalid_request_error"}}, 401)
        return _answer(json.loads(await request.body()))

    app = Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"])])
    app.router.redirect_slashes = False
    return app


def _answer(call: dict[str, Any]) -> Response:
    prompt = "\n".join(_text(message.get("content")) for message in call["messages"])
    told = _text(call["messages"][-1].get("content")) if call["messages"] else ""
    limit = call.get("max_completion_tokens") or call.get("max_tokens")
    tokens = _TOKEN.findall(told or "(silence)")
    said = tokens[:limit]
    head = {"id": f"chatcmpl-demo-{time.time_ns():x}", "created": int(time.time()), "model": MODEL}
    usage = {"prompt_tokens": len(_TOKEN.findall(prompt)), "completion_tokens": len(said)}
    usage["total_tokens"] = usage["prompt_tokens"] + usage["completion_tokens"]
    finish = "length" if len(said) < len(tokens) else "stop"
    if call.get("stream"):
        asked = (call.get("stream_options") or {}).get("include_usage")
        return StreamingResponse(_events(head, said, finish, usage if asked else None), media_type="text/event-stream")
    message = {"role": "assistant", "content": "".join(said)}
    choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
    return JSONResponse({**head, "object": "chat.completion", "choices": [choice], "usage": usage})


async def _events(head: dict[str, Any], said: list[str], finish: str, usage: dict[str, int] | None) -> AsyncIterator[str]:
    deltas = [{"role": "assistant", "content": ""}, *({"content": token} for token in said), {}]
    for place, delta in enumerate(deltas):
        ends = finish if place == len(deltas) - 1 else None
        yield _event({**head, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": ends}]})
        await asyncio.sleep(PAUSE)
    if usage:
        yield _event({**head, "object": "chat.completion.chunk", "choices": [], "usage": usage})
    yield "data: [DONE]\n\n"


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return ""
