"""What OpenAI's protocols share: usage, stream events, error envelope, media in messages.

Usage fields: OpenAI's API reference (`prompt_tokens`, `completion_tokens`, `*_details`), DeepSeek's
(`prompt_cache_hit_tokens`), Moonshot's (`cached_tokens`), Groq's (`x_groq.usage` in streams). Mistral's
`num_cached_tokens` is a figure of its servers that it does not price, so it is not read. Reasoning is a part of the
completion, but for xAI, which counts it beside: then it is in the total, which tells.
"""

import re
from typing import Any

import msgspec

from app.billing.usage import Usage
from app.errors import InvalidRequest, ProxyError
from app.gateway.protocols.base import CallRequest, StreamEvent, changed, decode
from app.gateway.protocols.reports import UNREADABLE, at_tier, count, is_count, object_of, usage_at_tier
from app.gateway.protocols.texts import event_data, events_of

_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_DONE = re.compile(rb"data:\s*\[DONE\]")
_ERROR = re.compile(rb'"error"\s*:')
SILENT = frozenset({"type", "id", "image_url", "input_audio", "file", "video_url", "data", "url"})
"""Fields whose text no tokenizer sees as it stands: media, and names of things."""
SILENT_IN_ANSWERS = SILENT | {"role"}
_ERROR_TYPES = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


class _Answer(msgspec.Struct):
    usage: Any = None
    choices: Any = None
    error: Any = None
    x_groq: Any = None
    service_tier: Any = None


_answers = msgspec.json.Decoder(_Answer)


def read_usage(reported: object) -> Usage | None:
    """None where the report lacks a count, or has one that is no integer, negative, or too large to be stored."""
    if not isinstance(reported, dict):
        return None
    prompt, total = reported.get("prompt_tokens"), reported.get("total_tokens")
    completion = reported.get("completion_tokens")
    if completion is None and is_count(prompt) and is_count(total):
        completion = total - prompt
    if not is_count(prompt) or not is_count(completion):
        return None
    of_prompt = object_of(reported.get("prompt_tokens_details"))
    of_completion = object_of(reported.get("completion_tokens_details"))
    reasoning = count(of_completion.get("reasoning_tokens"))
    if reasoning and total == prompt + completion + reasoning:
        completion += reasoning
    cached = (of_prompt.get("cached_tokens"), reported.get("prompt_cache_hit_tokens"), reported.get("cached_tokens"))
    return Usage(
        input_tokens=prompt,
        output_tokens=completion,
        cache_read_tokens=next((count(value) for value in cached if value is not None), 0),
        cache_write_tokens=count(of_prompt.get("cache_write_tokens")),
        reasoning_tokens=reasoning,
        audio_input_tokens=count(of_prompt.get("audio_tokens")),
        audio_output_tokens=count(of_completion.get("audio_tokens")),
    )


def usage_of_answer(answer: bytes) -> Usage | None:
    return usage_at_tier(answer, "usage", read_usage)


def tells(events: bytes) -> bool:
    """Looks for fixed bytes first, as every piece of a stream comes by here. One expression for all three takes ten times as long
    as each of them, as it has no first byte to look for. Most events of OpenAI's carry `"usage":null`."""
    return (
        (events.find(b"[DONE]") >= 0 and _DONE.search(events) is not None)
        or (events.count(b'"usage"') != events.count(b'"usage":null') and _USAGE.search(events) is not None)
        or (events.find(b'"error"') >= 0 and _ERROR.search(events) is not None)
    )


def read_event(event: bytes) -> StreamEvent:
    data = event_data(event)
    if data.strip() == b"[DONE]":
        return StreamEvent(is_terminal=True)
    try:
        answer = _answers.decode(data)
    except UNREADABLE:
        return StreamEvent()
    reported = next((usage for usage in _reports(answer) if isinstance(usage, dict)), None)
    return StreamEvent(
        usage=at_tier(read_usage(reported), answer.service_tier),
        is_usage_only=answer.choices == [] and isinstance(answer.usage, dict),
        error=_error_text(answer.error),
    )


def required_model(model: str | None) -> str:
    if model is None or not model.strip():
        raise InvalidRequest('You must provide a model: set the field "model" to one that `GET /v1/models` lists.', code="missing_model")
    return model


def naming(body: bytes, asked: str | None, named: str | None) -> bytes:
    """The request with the model that its URL names, where that isn't the one in it."""
    return body if asked == named else changed(body, model=asked)


def missing_in(request: CallRequest) -> str | None:
    """The model of a form that doesn't name it, as its URL does."""
    return None if request.form is None or "model" in request.form.fields() else request.model


def asking_usage(body: bytes) -> dict[str, Any]:
    """The request's `stream_options`, with usage asked for."""
    return {**(decode(body, dict[str, Any]).get("stream_options") or {}), "include_usage": True}


def choices(answer: bytes) -> list[dict[str, Any]]:
    """The choices of a whole answer; none where it can't be read."""
    try:
        return _choices_in(_answers.decode(answer).choices)
    except UNREADABLE:
        return []


def choices_of_events(events: bytes) -> list[dict[str, Any]]:
    return [choice for told in events_of(events) for choice in _choices_in(told.get("choices"))]


def _choices_in(listed: object) -> list[dict[str, Any]]:
    return [choice for choice in listed if isinstance(choice, dict)] if isinstance(listed, list) else []


def _reports(answer: _Answer) -> list[object]:
    """Where providers put usage in a stream: OpenAI at the top, Groq in a field of its own, Moonshot in the choice."""
    choice = answer.choices[0] if isinstance(answer.choices, list) and answer.choices else None
    return [answer.usage, object_of(answer.x_groq).get("usage"), object_of(choice).get("usage")]


def error_body(error: ProxyError) -> bytes:
    """OpenAI's envelope: https://platform.openai.com/docs/guides/error-codes."""
    kind = _ERROR_TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    return msgspec.json.encode({"error": {"message": str(error), "type": kind, "param": None, "code": error.code}})


def error_event(error: ProxyError) -> bytes:
    return b"data: " + error_body(error) + b"\n\n"


def _error_text(error: object) -> str | None:
    if isinstance(error, dict):
        return str(error.get("message") or error.get("code") or "error without a message")
    return str(error) if error else None
