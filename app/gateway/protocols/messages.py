"""`/v1/messages`: https://docs.anthropic.com/en/api/messages, streams: https://docs.anthropic.com/en/docs/build-with-claude/streaming.

Usage counts uncached input, cache reads and cache writes apart; here they are one input with its parts. A stream tells its
input first (`message_start`) and its output last (`message_delta`, cumulative). What an advisor of another model used
(`iterations`) is in no other count. Thinking is billed as output and reported as nothing else. Fast mode (`speed`) has
prices of its own, as a service tier does: https://docs.anthropic.com/en/docs/build-with-claude/fast-mode.
"""

import re
from typing import Annotated, Any

import msgspec

from app.billing.rates import TEXT_KINDS
from app.billing.service_tier import tier_asked, tier_named
from app.billing.usage import Usage
from app.errors import ProxyError
from app.gateway.protocols import attribution, openai, references
from app.gateway.protocols.base import (
    ESCAPED_NAME,
    NOTHING_MORE,
    Asked,
    CallRequest,
    StreamEvent,
    changed,
    decode,
    refuse_ambiguous_names,
)
from app.gateway.protocols.chat_bound import IMAGE_TOKENS, are_own_tools
from app.gateway.protocols.kept import NO_REFERENCES, Kept, References, files_of, is_id, kept_of
from app.gateway.protocols.reports import UNREADABLE, count, is_count, object_of, usage_in
from app.gateway.protocols.texts import event_data, events_of, texts

OVERHEAD = 1024
"""Tokens that the provider may add beyond the bytes of the request: its own prompt for tools takes some 300 to 700."""

_DECISIVE = re.compile(
    rb'"(model|messages|system|stream|tools|max_tokens|mcp_servers|container|context_management|service_tier|speed)"\s*:', re.IGNORECASE
)
_BOUNDED_FIELDS = frozenset(
    {
        "model", "messages", "max_tokens", "stream", "system", "tools", "tool_choice", "thinking", "metadata", "stop_sequences",
        "temperature", "top_k", "top_p", "output_config", "output_format", "service_tier", "cache_control", "inference_geo", "speed",
        "context_management",
    }
)  # fmt: skip
"""Fields of a request that bring no input from elsewhere; `context_management` where it only clears."""
_TEXT_BLOCKS = frozenset({"text", "tool_use", "tool_result", "thinking", "redacted_thinking"})
_OWN_TOOLS = frozenset({"custom"})
_EDIT_TYPE = re.compile(rb'"type"\s*:\s*"?(\w*)', re.IGNORECASE)
_CLEARING = re.compile(rb"clear_\w+|input_tokens|tool_uses|thinking_turns|all")
"""Edits of the context, and what they are counted in: https://platform.claude.com/docs/en/build-with-claude/context-editing."""
_SILENT = frozenset({"type", "id", "tool_use_id", "signature", "data", "source", "cache_control", "role"})
"""Fields whose text no tokenizer sees, or not as it stands."""
_TELLING = re.compile(rb'"usage"\s*:\s*\{|"message_stop"|"error"\s*:')
_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}

_Limit = Annotated[int, msgspec.Meta(ge=1, le=10_000_000)]


class _Block(msgspec.Struct):
    type: str
    content: Any = None


class _Turn(msgspec.Struct):
    content: str | list[_Block]


class _Metadata(msgspec.Struct):
    user_id: Any = None


class _Message(msgspec.Struct):
    messages: list[_Turn]
    model: str | None = None
    max_tokens: _Limit | None = None
    stream: bool | None = None
    system: str | list[_Block] | None = None
    metadata: _Metadata | None = None
    service_tier: Any = None
    speed: Any = None


class _Event(msgspec.Struct):
    type: str = ""
    message: Any = None
    content_block: Any = None
    delta: Any = None
    usage: Any = None
    error: Any = None


_events = msgspec.json.Decoder(_Event)


class Messages:
    api = "messages"
    path = "/v1/messages"
    auth = "x-api-key"

    def read(self, body: bytes, asked: Asked = NOTHING_MORE) -> CallRequest:
        message = decode(body, _Message)
        refuse_ambiguous_names(body, _DECISIVE)
        fields = decode(body, dict[str, msgspec.Raw])
        inline, media_tokens = (0, 0) if _is_text(message, body) else _media(body)
        is_bounded = _BOUNDED_FIELDS.issuperset(fields) and are_own_tools(bytes(fields.get("tools", b"")), _OWN_TOOLS)
        is_bounded = is_bounded and _only_clears(bytes(fields.get("context_management", b"")))
        runs_code = body.find(b'"container"') >= 0 or body.find(b'"code_execution') >= 0 or ESCAPED_NAME.search(body) is not None
        end_user, tags = attribution.of_anthropic(message.metadata.user_id if message.metadata else None)
        return CallRequest(
            body=openai.naming(body, asked.model, message.model),
            model=openai.required_model(asked.model or message.model),
            query=asked.query,
            is_stream=bool(message.stream),
            wants_usage=True,
            input_bound=max(len(body) - inline, 0) + media_tokens + OVERHEAD,
            media_tokens=media_tokens,
            output_limit=message.max_tokens,
            open_ended=bool(media_tokens) or not is_bounded,
            kinds=TEXT_KINDS | ({"cache_write_1h"} if b'"ttl"' in body else frozenset()),
            service_tier=tier_asked(message.service_tier if tier_named(message.speed) is None else message.speed),
            end_user=end_user,
            tags=tags,
            references=_references(body),
            is_kept=runs_code,
            reader=_RUNNING_CODE if runs_code else None,
        )

    def rewrite(self, request: CallRequest, *, model: str | None, output_limit: int | None, ask_usage: bool) -> bytes:
        return changed(request.body, model=model, max_tokens=output_limit)

    def usage_of(self, answer: bytes) -> Usage | None:
        return usage_in(answer, "usage", read_usage)

    def tells(self, events: bytes) -> bool:
        if events.find(b'"usage"') < 0 and events.find(b"message_stop") < 0 and events.find(b'"error"') < 0:
            return False
        return _TELLING.search(events) is not None

    def read_event(self, event: bytes) -> StreamEvent:
        try:
            told = _events.decode(event_data(event))
        except UNREADABLE:
            return StreamEvent()
        match told.type:
            case "message_start":
                return StreamEvent(usage=read_usage(object_of(told.message).get("usage")), is_partial=True)
            case "message_delta":
                is_last = object_of(told.delta).get("stop_reason") is not None
                adds = object_of(told.usage).get("input_tokens") is None
                kept = kept_of(object_of(told.delta).get("container"))
                return StreamEvent(usage=read_usage(told.usage, is_delta=True), is_partial=not is_last, is_addition=adds, kept=kept)
            case "message_stop":
                return StreamEvent(is_terminal=True)
            case "error":
                return StreamEvent(is_terminal=True, error=str(object_of(told.error).get("message") or "error without a message"))
        return StreamEvent()

    def request_texts(self, body: bytes) -> list[str]:
        request = decode(body, dict[str, Any])
        return texts([request.get(name) for name in ("system", "messages", "tools")], _SILENT)

    def answer_texts(self, answer: bytes) -> list[str]:
        try:
            return texts(object_of(msgspec.json.decode(answer)).get("content"), _SILENT)
        except UNREADABLE:
            return []

    def event_texts(self, events: bytes) -> list[str]:
        return texts([told.get("delta") or told.get("content_block") for told in events_of(events)], _SILENT)

    def error_body(self, error: ProxyError) -> bytes:
        """Anthropic's envelope: https://docs.anthropic.com/en/api/errors."""
        kind = _ERROR_TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
        return msgspec.json.encode({"type": "error", "error": {"type": kind, "message": str(error)}, "request_id": None})

    def error_event(self, error: ProxyError) -> bytes:
        return b"event: error\ndata: " + self.error_body(error) + b"\n\n"


class CountTokens(Messages):
    """`/v1/messages/count_tokens`: https://docs.anthropic.com/en/api/messages-count-tokens. It costs nothing."""

    api = "messages.count_tokens"
    path = "/v1/messages/count_tokens"

    def read(self, body: bytes, asked: Asked = NOTHING_MORE) -> CallRequest:
        message = decode(body, _Message)
        refuse_ambiguous_names(body, _DECISIVE)
        model = openai.required_model(asked.model or message.model)
        named = openai.naming(body, asked.model, message.model)
        return CallRequest(body=named, model=model, query=asked.query, has_output=False, is_free=True, references=_references(body))


class _RunningCode(Messages):
    """Reads of a stream also which files the code has made."""

    def tells(self, events: bytes) -> bool:
        return events.find(b"code_execution_tool_result") >= 0 or super().tells(events)

    def read_event(self, event: bytes) -> StreamEvent:
        try:
            told = _events.decode(event_data(event))
        except UNREADABLE:
            return StreamEvent()
        files = tuple(filter(is_id, files_of(object_of(told.content_block))))
        return StreamEvent(kept=Kept(files[0], files, "completed", is_lasting=True)) if files else super().read_event(event)


_RUNNING_CODE = _RunningCode()


def _references(body: bytes) -> References:
    may_refer = references.may_refer(body, references.REFERRING_IN_MESSAGES)
    return references.of_messages(body, decode(body, dict[str, Any])) if may_refer else NO_REFERENCES


def read_usage(reported: object, *, is_delta: bool = False) -> Usage | None:
    """None where the report lacks a count, or has one that can't be true. A delta tells its output, and of its input what
    has changed."""
    if not isinstance(reported, dict) or not is_count(reported.get("output_tokens")):
        return None
    uncached = reported.get("input_tokens")
    if not is_count(uncached) and not (is_delta and uncached is None):
        return None
    read, written = count(reported.get("cache_read_input_tokens")), count(reported.get("cache_creation_input_tokens"))
    for_an_hour = count(object_of(reported.get("cache_creation")).get("ephemeral_1h_input_tokens"))
    searches = count(object_of(reported.get("server_tool_use")).get("web_search_requests"))
    return Usage(
        input_tokens=count(uncached) + read + written,
        output_tokens=reported["output_tokens"],
        cache_read_tokens=read,
        cache_write_tokens=written,
        cache_write_1h_tokens=min(for_an_hour, written),
        extra={"web_search": searches} if searches else {},
        others=_others(reported.get("iterations")),
        service_tier=tier_named(reported.get("speed")) or tier_named(reported.get("service_tier")),
    )


def _others(iterations: object) -> dict[str, Usage]:
    """What models beside the one that was called have used, such as an advisor."""
    found: dict[str, Usage] = {}
    for iteration in iterations if isinstance(iterations, list) else ():
        model = object_of(iteration).get("model")
        if isinstance(model, str) and (usage := read_usage(iteration)) is not None:
            found[model] = found[model].plus(usage) if model in found else usage
    return found


def _only_clears(management: bytes) -> bool:
    """Whether nothing but old thinking and tool results is taken out of the context, as Claude Code asks with every call. A
    compaction is another matter: the provider calls the model for it."""
    return b"\\" not in management and all(_CLEARING.fullmatch(kind) for kind in _EDIT_TYPE.findall(management))


def _is_text(message: _Message, body: bytes) -> bool:
    """Whether nothing but text can be in it, however its fields are read."""
    if b'"source"' in body or ESCAPED_NAME.search(body):
        return False
    contents = [message.system, *(turn.content for turn in message.messages)]
    return all(_is_text_block(block) for content in contents if isinstance(content, list) for block in content)


def _is_text_block(block: _Block) -> bool:
    if block.type == "tool_result" and isinstance(block.content, list):
        return all(object_of(part).get("type") == "text" for part in block.content)
    return block.type in _TEXT_BLOCKS


def _media(body: bytes) -> tuple[int, int]:
    """Bytes that are inline media, and the tokens held in the stead of all media; at least 1, as there may be some."""
    inline, sources = 0, 0
    waiting: list[Any] = [decode(body, dict[str, Any]).get("messages")]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            source = value.get("source")
            if isinstance(source, dict):
                sources += 1
                inline += len(source["data"]) if isinstance(source.get("data"), str) and source.get("type") == "base64" else 0
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return inline, max(sources * IMAGE_TOKENS, 1)
